"""What answers hold exactly, whatever a network says: means, values at walls, no divergence, any linear equations.

`Holds` says it, in plain values that a recipe and a model on disk take. `Holding` is the same on a grid: the nearest
fields that hold it, by `scifm.fields.projecting`, nearest in the root mean square over space. Values at walls are set
and the divergence is taken by the projection of Leray, both without rows; means and other rows are then met within what
these leave free, so that all of it holds together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from scifm.config import Config, build_config
from scifm.errors import ConfigError, SignatureError, suggest
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import mean, point_weights
from scifm.fields.on_device import in_a_row
from scifm.fields.projecting import Projection
from scifm.fields.signature import Signature
from scifm.fields.spectral import require_periodic, without_divergence
from scifm.wording import plural

__all__ = ["Holding", "Holds", "Rows"]

_MOST_WRITTEN = 2**18  # numbers of rows, which stand in a text file beside the weights

Number = Annotated[float, Field(allow_inf_nan=False)]
Value = Number | Literal["kept"]
"""A number in physical units; or ``kept``: what it is in the input, of a field that is input and output."""
End = Number | Literal["kept", "free"]
"""The same of one end of an axis, where nothing may be asked."""


class Rows(Config):
    """Linear equations, a row each: sums of numbers at the points of one or several outputs.

    Args:
        outputs: which, in the order of their numbers in a row.
        rows: of each equation what every number is multiplied by: points of the first output in array order (x
            fastest), then those of the next.
        values: what each of them adds up to.
    """

    outputs: tuple[str, ...] = Field(min_length=1)
    rows: tuple[tuple[Number, ...], ...] = Field(min_length=1)
    values: tuple[Number, ...]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        lengths = {len(row) for row in self.rows}
        if len(lengths) > 1:
            raise ValueError(f"rows are of one length; got {', '.join(map(str, sorted(lengths)))}")
        if len(self.values) != len(self.rows):
            raise ValueError(
                f"{plural(len(self.rows), 'row')} need as many values; got {len(self.values)}: one number for each row"
            )
        if len(self.rows) * max(lengths) > _MOST_WRITTEN:
            raise ValueError(
                f"rows of {len(self.rows) * max(lengths):,} numbers are too many to be written beside a model, "
                f"{_MOST_WRITTEN:,} at most; hold means, values at walls and the divergence by their names instead"
            )
        return self

    @classmethod
    def of(cls, outputs: str | Sequence[str], rows: Any, values: Any) -> Self:
        """Return the equations of arrays.

        Args:
            outputs: one output, or several.
            rows: ``(equation, n)`` or ``(equation, output, *space)``; of a single equation without that axis.
            values: ``(equation,)``, or one number for all.

        Raises:
            ConfigError: if they are not finite, or do not fit each other.
        """
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        given, asked = np.asarray(rows, dtype=np.float64), np.asarray(values, dtype=np.float64)
        given = given.reshape(1 if asked.ndim == 0 and given.ndim == 1 else len(given), -1)
        asked = np.broadcast_to(asked, len(given)) if asked.ndim == 0 else asked.reshape(-1)
        if not (np.isfinite(given).all() and np.isfinite(asked).all()):
            raise ConfigError("Rows that are held, and their values, are finite numbers; got NaN or infinity.")
        tree = {"outputs": names, "rows": given.tolist(), "values": asked.tolist()}
        return build_config(cls, tree, source="rows")


class Holds(Config):
    """What answers hold exactly, whatever the network says, while it trains too.

    Args:
        mean: of outputs by name, the average over space: a number, or ``kept``: that of the input frame, so that a
            march holds that of its first frame. By the rule of `scifm.fields.norms`, which on axes that do not wrap
            around counts the points at their ends half.
        boundary: of outputs by name and axis (``x``, ``y``, ``z``, of those that do not wrap around), the values at the
            two ends: one for both, or the low end and the high end; each a number, ``kept`` or ``free``.
        solenoidal: outputs that are the components, along x, y, z, of a field without divergence; on periodic grids.
        rows: any further equations.
    """

    mean: dict[str, Value] = Field(default_factory=dict)
    boundary: dict[str, dict[Literal["x", "y", "z"], End | tuple[End, End]]] = Field(default_factory=dict)
    solenoidal: tuple[str, ...] = ()
    rows: tuple[Rows, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.outputs:
            raise ValueError("hold says of no output what holds; name one under mean, boundary, solenoidal or rows")
        return self

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: part for name, part in serialize(self).items() if part}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of which something holds."""
        of_rows = (name for equations in self.rows for name in equations.outputs)
        return tuple(dict.fromkeys((*self.mean, *self.boundary, *self.solenoidal, *of_rows)))

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of those that hold what they are in the input."""
        means = (name for name, value in self.mean.items() if value == "kept")
        return tuple(dict.fromkeys((*means, *(name for name, *_, end in self.ends() if end == "kept"))))

    @property
    def joint(self) -> tuple[tuple[str, ...], ...]:
        """Sets of outputs that hold something together."""
        sets = (self.solenoidal, *(equations.outputs for equations in self.rows))
        return tuple(names for names in sets if len(names) > 1)

    def ends(self) -> Iterator[tuple[str, str, int, End]]:
        """Yield output, axis, which end (0 low, −1 high) and what holds there."""
        for name, axes in self.boundary.items():
            for axis, given in axes.items():
                pair = given if isinstance(given, tuple) else (given, given)
                yield from ((name, axis, place, end) for place, end in zip((0, -1), pair, strict=True) if end != "free")

    def require(self, signature: Signature) -> None:
        """Check that it is said of outputs, and of states where these keep something.

        Raises:
            ConfigError: if it is not.
        """
        for name in self.outputs:
            if name not in signature.outputs:
                raise ConfigError(f"hold names outputs of the operator: {suggest(name, signature.outputs)}")
        for name in self.kept:
            if name not in signature.inputs:
                raise ConfigError(
                    f"hold keeps what '{name}' is in the input, and it is an output only: give a number instead."
                )
        dims = signature.num_spatial_dims
        if self.solenoidal and len(set(self.solenoidal)) != dims:
            raise ConfigError(
                f"hold.solenoidal has {plural(dims, 'component')} here, along {', '.join('xyz'[:dims])}; got "
                f"{', '.join(self.solenoidal)}."
            )

    def renamed(self, call: Callable[[str], str]) -> Holds:
        """Return the same with other names for outputs."""
        return Holds(
            mean={call(name): value for name, value in self.mean.items()},
            boundary={call(name): axes for name, axes in self.boundary.items()},
            solenoidal=tuple(map(call, self.solenoidal)),
            rows=tuple(
                own.model_copy(update={"outputs": tuple(map(call, own.outputs))}) for own in self.rows
            ),
        )  # fmt: skip

    def within(self, signature: Signature) -> Holds | None:
        """Return as much of it as outputs with these names can hold; None: nothing."""
        lost = {name for name in self.outputs if name not in signature.outputs}
        lost |= {name for name in self.kept if name not in signature.inputs}
        if not lost:
            return self
        solenoidal = () if lost & set(self.solenoidal) else self.solenoidal
        rest = {
            "mean": {name: value for name, value in self.mean.items() if name not in lost},
            "boundary": {name: axes for name, axes in self.boundary.items() if name not in lost},
            "solenoidal": solenoidal,
            "rows": tuple(own for own in self.rows if not lost & set(own.outputs)),
        }
        return Holds(**rest) if any(rest.values()) else None


class Holding:
    """What is held, on one grid: a layer between a network and its answer, differentiable.

    Args:
        holds: what.
        signature: the names of the answers.
        grid: where they live.

    Attributes:
        outputs: of which something holds, in the order of the signature.

    Raises:
        ConfigError: if it cannot hold: of names that are no outputs, along an axis that wraps around, with values that
            contradict each other.
        SignatureError: if rows are of another number of points, or the divergence is of a grid with walls.
    """

    def __init__(self, holds: Holds, signature: Signature, grid: Grid) -> None:
        holds.require(signature)
        self.grid, self._holds = grid, holds
        self.outputs = self._names = tuple(name for name in signature.outputs if name in holds.outputs)
        self._places = [signature.outputs.index(name) for name in self._names]
        self._inputs = [signature.inputs.index(name) if name in holds.kept else None for name in self._names]
        if holds.solenoidal:
            require_periodic(grid)
        # off the graph, and no tensors of inference: what is made once is trained through later
        with torch.inference_mode(False), torch.no_grad():
            self._index = torch.tensor(self._places)
            self._fixed, self._kept, self._values = self._at_ends()
            self._projection = self._of_rows()
            self._asked = self.equations()[1]
        self._keeps_mean = [(row, name) for row, (name, value) in enumerate(holds.mean.items()) if value == "kept"]

    # --- how it is put together ---------------------------------------------------------------------------------------

    def _at_ends(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return which points have values set, which of them keep the input's, and the others' values."""
        shape = len(self._names), *self.grid.num_points
        fixed, kept = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
        values = torch.zeros(shape, dtype=torch.float64)
        for name, axis, place, end in self._holds.ends():
            if axis not in self.grid.axis_names:
                raise ConfigError(f"hold.boundary.{name}: axis {suggest(axis, self.grid.axis_names)}")
            along = self.grid.axis_names.index(axis)
            if self.grid.periodic[along]:
                raise ConfigError(
                    f"hold.boundary.{name}.{axis} asks for values at the ends of {axis}, which wraps around and has "
                    "none: leave it out, or take a grid with walls there."
                )
            edge: tuple[Any, ...] = (self._names.index(name), *(slice(None),) * along, place)
            number = 0.0 if end == "kept" else float(end)
            same = (kept[edge] == (end == "kept")) & (values[edge] == number)
            if not bool((same | ~fixed[edge]).all()):
                raise ConfigError(
                    f"hold.boundary.{name} asks for two things where ends of {' and '.join(self.grid.axis_names)} "
                    "meet: give all axes one value there, or leave an end free."
                )
            fixed[edge], kept[edge], values[edge] = True, end == "kept", number
        return fixed, kept, values

    def _of_rows(self) -> Projection | None:
        rows, values, varies, told = self.equations()
        if not len(rows):
            return None
        rule = self._rule().expand(self._fixed.shape)
        return Projection(
            rows, values, weights=rule.flatten(), within=self._free, varies=varies, names=told,
            offset=self._values.flatten(),
        )  # fmt: skip

    def equations(self) -> tuple[Float[Tensor, "k n"], Float[Tensor, " k"], Tensor, list[str]]:
        """Return means and rows as A and b over the outputs held, in float64; which of b vary; and what each is."""
        size, count = self._rule().numel(), len(self._names)
        rows, values, varies, told = [], [], [], []
        rule = (self._rule() / self._rule().sum()).flatten()
        for name, value in self._holds.mean.items():
            row = torch.zeros(count, size, dtype=torch.float64)
            row[self._names.index(name)] = rule
            rows.append(row.flatten())
            values.append(0.0 if value == "kept" else float(value))
            varies.append(value == "kept" or bool(self._kept[self._names.index(name)].any()))
            told.append(f"the mean of {name}")
        for own in self._holds.rows:
            length = len(own.outputs) * size
            if len(own.rows[0]) != length:
                raise SignatureError(
                    f"Rows of {', '.join(own.outputs)} have {plural(length, 'number')} on {self.grid.told_points}; got "
                    f"rows of {len(own.rows[0])}. Give rows for this grid."
                )
            places = [self._names.index(name) for name in own.outputs]
            block = torch.zeros(len(own.rows), count, size, dtype=torch.float64)
            block[:, places] = torch.tensor(own.rows, dtype=torch.float64).view(-1, len(places), size)
            rows += block.flatten(1).unbind(0)
            values += own.values
            touches = (block * self._kept.flatten(1)).flatten(1).any(1)
            varies += touches.tolist()
            told += [f"row {place} of {', '.join(own.outputs)}" for place in range(len(own.rows))]
        stacked = torch.stack(rows) if rows else torch.zeros(0, count * size, dtype=torch.float64)
        return stacked, torch.tensor(values, dtype=torch.float64), torch.tensor(varies, dtype=torch.bool), told

    def _rule(self) -> Tensor:
        ones = torch.ones(self.grid.num_points, dtype=torch.float64)
        weights = point_weights(self.grid, ones)
        return ones if weights is None else weights

    def _free(self, numbers: Float[Tensor, "... n"]) -> Tensor:
        """Return fields as far as values at ends and the divergence leave them free."""
        fields = torch.where(self._fixed, 0.0, numbers.view(*numbers.shape[:-1], *self._fixed.shape))
        return self._without_divergence(fields).flatten(-len(self._fixed.shape))

    def _without_divergence(self, fields: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self._holds.solenoidal:
            return fields
        axis = -1 - self.grid.num_spatial_dims
        places = [self._names.index(name) for name in self._holds.solenoidal][::-1]  # along z, y, x
        parts = list(fields.unbind(axis))
        taken = without_divergence([parts[place] for place in places], self.grid)
        for place, part in zip(places, taken, strict=True):
            parts[place] = part
        return torch.stack(parts, dim=axis)

    # --- what it does -------------------------------------------------------------------------------------------------

    def to(self, device: torch.device) -> Holding:
        """Return it with its tensors on a device."""
        if self._fixed.device == device:
            return self
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        with torch.inference_mode(False):
            for name in ("_fixed", "_kept", "_values", "_asked", "_index"):
                setattr(other, name, getattr(self, name).to(device))
            other._projection = None if self._projection is None else self._projection.to(device)
        return other

    def nearest(
        self, fields: Float[Tensor, "*shape"], state: Float[Tensor, "*#shape"] | None = None
    ) -> Float[Tensor, "*shape"]:
        """Return the nearest fields that hold it, in the precision that came; in physical units, as all here.

        Args:
            fields: of the outputs of which something holds, in the order of its `outputs`, ``(..., output, *space)``.
            state: the same of the input frame, of which only what is kept counts; None where nothing is.
        """
        moved = fields.double()
        state = torch.zeros_like(moved) if state is None else state.double()
        if self._holds.boundary:
            moved = torch.where(self._fixed, torch.where(self._kept, state, self._values), moved)
        moved = self._without_divergence(moved)
        if self._projection is not None:
            dims = self._fixed.dim()
            flat = self._projection(moved.flatten(-dims), self.values(state))
            moved = flat.unflatten(-1, self._fixed.shape)
        return moved.to(fields.dtype)

    def values(self, state: Float[Tensor, "*shape"]) -> Float[Tensor, "... k"]:
        """Return b of `equations` for each sample, of the input frame of the outputs that something holds of."""
        lead = state.shape[: state.dim() - self._fixed.dim()]
        asked = self._asked.expand(*lead, -1).clone()
        for row, name in self._keeps_mean:
            field = state.movedim(-1 - self.grid.num_spatial_dims, 0)[self._names.index(name)]
            asked[..., row] = mean(field.double(), self.grid)
        return asked

    def beside(
        self, state: Float[Tensor, "batch output *space"], num_outputs: int, *, told: Collection[str] = ()
    ) -> tuple[Float[Tensor, "k n"], Float[Tensor, "batch k"], Tensor]:
        """Return means and rows over the numbers of all outputs, what they ask, and which numbers are set, ``(n,)``.

        For who moves answers otherwise, and not off what they hold; the divergence is left to them.

        Args:
            state: as of `state`.
            num_outputs: of an answer.
            told: outputs whose means somebody else says.
        """
        rows, count = self.equations()[0].to(state.device), self._rule().numel()
        said = list(self._holds.mean)
        own = [row for row in range(len(rows)) if row >= len(said) or said[row] not in told]
        wide = rows.new_zeros(len(own), num_outputs, count)
        wide[:, self._places] = rows[own].unflatten(1, (-1, count))
        still = torch.zeros(num_outputs, count, dtype=torch.bool, device=state.device)
        still[self._places] = self._fixed.flatten(1)
        return wide.flatten(1), self.values(state)[:, own], still.flatten()

    def state(self, question: Batch) -> Float[Tensor, "batch output *space"]:
        """Return the last input frame of the outputs that something holds of; zeros of those that keep nothing."""
        frame = question.inputs[:, -1]
        return torch.stack([torch.zeros_like(frame[:, 0]) if i is None else frame[:, i] for i in self._inputs], dim=1)

    def __call__(self, answer: Float[Tensor, "batch 1 output *space"], question: Batch) -> Tensor:
        """Return the nearest answer that holds it; an output that a sample lacks stays as it is.

        Args:
            answer: one frame of every output.
            question: what was asked, whose names of inputs and outputs are those it was made with.

        Raises:
            SignatureError: if a sample lacks some of the outputs that hold something together.
        """
        own = answer[:, :, in_a_row(self._places)]
        held = self.nearest(own, self.state(question).unsqueeze(1) if self._holds.kept else None)
        there = question.has(self._names)
        if there is not None:
            for names in self._holds.joint:
                some = there[:, [self._names.index(name) for name in names]]
                if bool((some != some[:, :1]).any()):
                    raise SignatureError(
                        f"{', '.join(names)} hold something together, and some samples have only a part of them: take "
                        "that out of hold."
                    )
            held = torch.where(there.view(len(there), 1, -1, *(1,) * self.grid.num_spatial_dims), held, own)
        return answer.index_copy(2, self._index, held)
