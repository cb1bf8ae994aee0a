"""An operator that is a learned vector field: what it answers is where a solver arrives that follows it.

Of what evolves, the network is a tendency, du/dt = f(u, coefficients), and a step of time τ is its solution by a scheme
in `num_steps` steps::

    u(t + τ) = u(t) + ∫ f dt,      f: lift → Fourier layers → projection, once for each stage of the scheme

The same weights can be asked with another scheme, with more steps, or for another τ (`Continuous.stepped`,
`any_lead_time`). What they then answer tells whether a continuous operator was learned or a map of the step that it was
trained with: Krishnapriyan, Queiruga, Erichson, Mahoney, arXiv:2202.08494, and `scifm.trust.continuity`.

Of steady problems the way from the first to the last hidden channels is what is solved: depth is time, from 0 to 1::

    lift → hidden channels follow f: Fourier layers → projection

Weights may change along the way, in equal pieces (`basis`): Queiruga, Erichson, Taylor, Mahoney, arXiv:2008.02389.
`Continuous.refined` gives twice as many pieces that answer the same, to train on from there.

Units: the network's numbers are those of any operator, brought to order one by the normalization of the state at hand,
and what it answers is the change in one typical lead time. Scalings that are exact stay so, and the field is one of the
physical state alone: two halves of a time make the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from scifm.config import build_config
from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.on_device import in_a_row
from scifm.models.architecture import Hidden
from scifm.models.fno import SIZES
from scifm.models.operator import Operator, OperatorConfig, OuterMaps, Role
from scifm.models.parts.grids import band_limited_resize, cropped
from scifm.models.parts.ode import SCHEMES, Gradient, Place, SchemeName, solve
from scifm.models.parts.pointwise import Lift, Projection
from scifm.models.parts.spectral import Engine, FourierLayer
from scifm.models.parts.workspace import Workspace

__all__ = ["Continuous", "ContinuousConfig"]

_BEGIN = Place(Fraction(0), Fraction(0))


class ContinuousConfig(OperatorConfig):
    """Architecture of a `Continuous` operator.

    Args:
        width: hidden channels.
        modes: Fourier modes kept per axis, as of an FNO.
        num_layers: Fourier layers of the vector field.
        projection_width: channels of the hidden layer of the projection.
        latent_points: points a side of the grid of the hidden layers, at least twice `modes`; 0: the grid of the data.
            What evolves then changes in modes below half of it only.
        scheme: that of the steps: ``euler``, ``midpoint`` or ``rk4``, with 1, 2 or 4 evaluations a step.
        num_steps: steps from the input to the answer, however far ahead it lies.
        basis: of how many pieces the weights are along the way; 1: they are the same all along, and what evolves has a
            tendency that does not know how long ago it began. At most as many as steps.
        between: what weights are between the pieces: ``constant`` in each, or ``linear`` from one of `basis` nodes to
            the next, at twice the cost.
        gradient: how the gradient goes back through the steps: ``plain`` keeps what every stage made; ``checkpoint``
            gives the same gradient, keeps the states between steps and computes each step again; ``adjoint`` keeps
            nothing and is exact only in the limit of short steps.
        position: give the network one more input channel for each axis: where between its ends a point lies, −1 to 1,
            and 0 on an axis that wraps around. When left out, it is settled by the first data: given where they have
            walls.
        engine: how products are made, see `FNOConfig`.
        spectral_init: standard deviation of the first spectral weights, in units of 1/√width.
    """

    kind: ClassVar[str] = "continuous"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"width": width, "projection_width": 2 * width} for name, width in SIZES.items()
    }
    sized_by: ClassVar[tuple[str, ...] | None] = (
        "width", "modes", "num_layers", "projection_width", "latent_points", "engine", "gradient",
    )  # fmt: skip

    width: int = Field(32, ge=1, le=4096)
    modes: int = Field(12, ge=1, le=4096)
    num_layers: int = Field(2, ge=1, le=64)
    projection_width: int = Field(64, ge=1, le=8192)
    latent_points: int = Field(24, ge=0, le=16384)
    scheme: SchemeName = "rk4"
    num_steps: int = Field(1, ge=1, le=4096)
    basis: int = Field(1, ge=1, le=4096)
    between: Literal["constant", "linear"] = "constant"
    gradient: Gradient = "plain"
    position: bool | None = None
    engine: Engine = "auto"
    spectral_init: float = Field(0.125, gt=0)

    @model_validator(mode="after")
    def _goes_together(self) -> ContinuousConfig:
        if self.latent_points and self.latent_points < 2 * self.modes:
            raise ValueError(
                f"latent_points must be at least twice modes ({self.modes}), or 0 for the grid of the data; got "
                f"{self.latent_points}"
            )
        if self.basis > self.num_steps:
            raise ValueError(
                f"basis must be at most num_steps ({self.num_steps}), so that a step meets every piece of the weights; "
                f"got {self.basis}"
            )
        if self.between == "linear" and self.basis == 1:
            raise ValueError("between = 'linear' has no effect with basis = 1: weights are the same all along")
        return self


class Continuous(Operator):
    """A learned vector field on boxes of one to three dimensions, periodic or extended to be so.

    Raises:
        SignatureError: if there is an output of what evolves that is no state.
    """

    config: ContinuousConfig
    config_class = ContinuousConfig
    parts = {"lift": "lift", "layers": "inner", "projection": "projection"}  # noqa: RUF012
    uses_global_generator = False
    uses_all_weights = True
    can_recompute = True
    any_resolution = True
    lead_time_is_coefficient = False  # it is how far the solver goes
    counted_in = torch.float64  # the compiled kernels know float32 only

    def __init__(
        self,
        signature: Signature,
        config: ContinuousConfig | None = None,
        *,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__(signature, config or ContinuousConfig(), normalization=normalization)
        odd = [name for name in signature.outputs if name not in signature.inputs]
        if signature.evolves and odd:
            raise SignatureError(
                f"An operator of kind 'continuous' follows its own answers: every output of what evolves must be an "
                f"input too; '{odd[0]}' is none. Leave it out, or take another kind of operator."
            )
        self.answers_at_once = not signature.evolves
        self.any_lead_time = signature.evolves and self.config.basis == 1
        c, plain, workspace = self.config, self.config.engine == "plain", Workspace()
        shared: dict[str, Any] = {"engine": c.engine, "workspace": workspace}
        self.lift = Lift(self.num_channels, self.num_coefficients, c.width, workspace=workspace, plain=plain)
        # what is linear between two layers is so before their activation; a change of hidden channels is added anyway
        modes, fused = (c.modes,) * signature.num_spatial_dims, c.between == "constant"
        shared["residual"] = fused and signature.evolves
        self.layers = nn.ModuleList(
            nn.ModuleList(
                FourierLayer(c.width, c.width, modes, activation=fused and place < c.num_layers - 1, **shared)
                for place in range(c.num_layers)
            )
            for _ in range(c.basis)
        )
        self.projection = Projection(
            c.width, c.projection_width, len(signature.outputs), workspace=workspace, plain=plain
        )
        for layer in self.stages():
            nn.init.normal_(layer.get_parameter("spectral_weight"), std=c.spectral_init / math.sqrt(c.width))

    # --- what it says of itself ---------------------------------------------------------------------------------------

    @property
    def sees_lead_time(self) -> bool:
        """Of what evolves, always: it is how far the tendency is followed."""
        return self.signature.evolves

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    def stages(self) -> list[nn.Module]:
        return [layer for piece in self.layers for layer in _members(piece)]

    def outer_maps(self) -> OuterMaps:
        last = self.projection[-1]
        assert isinstance(last, nn.Linear)
        positions: tuple[Role, ...] = ("position",) if self.num_positions else ()
        return OuterMaps(self.lift, ("input", *positions, "coefficient"), last)

    def hidden(self) -> Hidden:
        return Hidden(tuple(self.stages()), ("space", "batch", "channel"))

    def stepped(self, *, scheme: str | None = None, num_steps: int | None = None) -> Self:
        """Return an operator with the same weights, shared, that follows them by another scheme or in other steps."""
        asked = {"scheme": scheme, "num_steps": num_steps}
        said = {name: value for name, value in asked.items() if value is not None}
        return self.with_config(self._changed(**said))

    def plain_config(self) -> ContinuousConfig:
        return self._changed(engine="plain")

    def refined(self) -> Self:
        """Return an operator with twice as many pieces of weights, to be trained on from there; it has its own weights.

        Of pieces that are ``constant`` each is there twice and every answer is the same, bit for bit. Of n nodes with
        ``linear`` between them, new ones stand halfway, 2n − 1 in all, and answers are the same up to rounding.

        Raises:
            ConfigError: if a step would not meet every piece; give more steps before, by `stepped`.
        """
        count = self.config.basis
        linear = self.config.between == "linear"
        basis = 2 * count - 1 if linear else 2 * count
        finer = type(self)(self.signature, self._changed(basis=basis), normalization=self.normalization)
        old, new = self.state_dict(), {}
        for name in finer.state_dict():
            head, _, rest = name.partition(".")
            if head != "layers":
                new[name] = old[name].clone()
                continue
            place, _, rest = rest.partition(".")
            left, half = divmod(int(place), 2)
            mine = old[f"layers.{left}.{rest}"]
            new[name] = (mine + old[f"layers.{left + 1}.{rest}"]) / 2 if linear and half else mine.clone()
        finer.load_state_dict(new, assign=True)
        finer.domain, finer.provenance = self.domain, self.provenance
        return finer.train(self.training)

    def _changed(self, **settings: Any) -> ContinuousConfig:
        return build_config(ContinuousConfig, {**self.config.to_dict(), **settings}, source="the operator asked for")

    # --- what it does -------------------------------------------------------------------------------------------------

    def tendency(self, batch: Batch) -> Float[Tensor, "batch 1 output *space"]:
        """Return the learned du/dt at the input frame, in the units of the fields over that of time.

        Raises:
            SignatureError: if the samples do not evolve or do not say a lead time, or do not fit the operator.
        """
        if not self.signature.evolves:
            raise SignatureError("A tendency is of what evolves; this operator answers what does not.")
        return self._tendency(self.align(batch), _BEGIN)

    def network(self, encoded: Encoded) -> Float[Tensor, "batch 1 output *space"]:
        """Map encoded inputs to encoded answers; shapes as in `Operator.network`.

        Of what evolves: the change in one typical lead time at the rate of the input frame.
        """
        if self.signature.evolves:
            return self._projected(self._through_layers(self._lifted(encoded), _BEGIN), encoded)
        held = list(self.layers.parameters())
        return self._projected(self._solved(self._through_layers, self._lifted(encoded), 1.0, held), encoded)

    def _next_frame(self, batch: Batch) -> Tensor:
        """Of what evolves, return the state after the lead time; numbers are normalized anew at every stage."""
        if not self.signature.evolves:
            return super()._next_frame(batch)
        time = batch.lead_time
        if time is None:
            raise SignatureError("This operator follows a tendency for a time: give the batch a lead_time.")
        batch = self._filled(batch)
        held = [*self.parameters(), batch.inputs, batch.coefficients]
        first = batch.inputs[:, -1:, in_a_row(self._columns)]
        width = time[:, :1].view(-1, *(1,) * (first.dim() - 1))
        return self._solved(lambda y, place: self._tendency(self._moved(batch, y), place), first, width, held)

    def _solved(
        self, slope: Callable[[Tensor, Place], Tensor], state: Tensor, width: Tensor | float, held: Sequence[Tensor]
    ) -> Tensor:
        c = self.config
        about: dict[str, Any] = {"scheme": SCHEMES[c.scheme], "num_steps": c.num_steps, "gradient": c.gradient}
        return solve(slope, state, width, held=held, **about)

    @property
    def _columns(self) -> list[int]:
        """Where each output stands among the inputs."""
        return self.signature.state_places

    def _filled(self, batch: Batch) -> Batch:
        """Return the batch with missing points of the state at their mean, where normalization begins them too."""
        if batch.valid_inputs is None:
            return batch
        still = replace(self.normalization, output_shift=(0.0,) * len(self._columns))
        start, valid = still.encode(batch).output_offset, batch.valid_inputs.clone()
        assert start is not None
        valid[:, :, in_a_row(self._columns)] = True
        return replace(self._moved(batch, start), valid_inputs=valid)

    def _moved(self, batch: Batch, state: Tensor) -> Batch:
        """Return the batch with another state; inputs that are none stay as they are."""
        columns, count = self._columns, len(self.signature.inputs)
        if columns == list(range(count)):
            return replace(batch, inputs=state)
        rows = {column: row for row, column in enumerate(columns)}
        both = torch.cat([state, batch.inputs.to(state.dtype)], dim=2)
        return replace(batch, inputs=both[:, :, [rows.get(c, len(columns) + c) for c in range(count)]])

    def _tendency(self, batch: Batch, place: Place) -> Tensor:
        encoded = self.encoded(batch)
        assert batch.lead_time is not None
        assert encoded.lead_time is not None
        slope = self._projected(self._through_layers(self._lifted(encoded), place), encoded)
        change = cropped(slope, batch.grid) * encoded.output_scale
        if encoded.output_offset is not None:  # what all of them change by in a typical lead time, if anything
            change = change + (encoded.output_offset - batch.inputs[:, -1:, in_a_row(self._columns)])
        unit = batch.lead_time[:, 0] / encoded.lead_time
        return change / unit.view(-1, *(1,) * (change.dim() - 1))

    def _lifted(self, encoded: Encoded) -> Tensor:
        """Return hidden channels ``(*latent, batch, width)``."""
        fields, latent = encoded.inputs[:, 0], self.config.latent_points
        points = tuple(fields.shape[2:])
        fields = band_limited_resize(fields, (latent,) * len(points) if latent else points)
        return self.lift(fields, encoded.coefficients)

    def _through_layers(self, hidden: Tensor, place: Place) -> Tensor:
        c = self.config
        if c.between == "constant":
            for layer in _members(self.layers[place.piece(c.basis)]):
                hidden = self.through(layer, hidden)
            return hidden
        left = min(int(place.at * (c.basis - 1)), c.basis - 2)
        share = float(place.at * (c.basis - 1) - left)
        pairs = zip(_members(self.layers[left]), _members(self.layers[left + 1]), strict=True)
        for index, (one, other) in enumerate(pairs):
            ahead = torch.lerp(self.through(one, hidden), self.through(other, hidden), share)
            ahead = functional.gelu(ahead) if index < c.num_layers - 1 else ahead
            hidden = hidden + ahead if self.signature.evolves else ahead
        return hidden

    def _projected(self, hidden: Tensor, encoded: Encoded) -> Tensor:
        """Return what hidden channels say of the outputs, ``(batch, 1, output, *space)``."""
        answer = self.projection(hidden)
        answer = answer.permute(-2, -1, *range(answer.dim() - 2))
        return band_limited_resize(answer, tuple(encoded.inputs.shape[3:])).unsqueeze(1)


def _members(blocks: nn.Module) -> nn.ModuleList:
    assert isinstance(blocks, nn.ModuleList)
    return blocks
