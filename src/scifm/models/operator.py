"""`Operator`: the learned map ``Batch → Batch``.

An operator knows its own `Signature`, finds every channel by name, brings numbers to order one with its own
`Normalization`, and returns physical fields. A network inside it sees tensors only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scifm.errors import ConfigError, OutsideWarning, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Boundary, Grid
from scifm.fields.holding import Holding, Holds
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.window import Pace, are_within, told_times
from scifm.findings.provenance import Provenance
from scifm.models.alignment import in_names_of
from scifm.models.architecture import Hidden, OperatorConfig, OuterMaps, Role, evaluating
from scifm.models.arrays import Question
from scifm.models.bands import bands
from scifm.models.marching import followed, marched
from scifm.models.parts.channels import network_channels
from scifm.models.parts.grids import cropped, extend_to_period
from scifm.models.stored import Stored
from scifm.wording import plural

__all__ = ["Operator", "OperatorConfig", "OuterMaps", "Role"]


class Operator(Stored):
    """A network with names and units around it.

    Args:
        signature: the fields and coefficients it knows.
        config: architecture settings, kept so that the operator can be saved and rebuilt.
        normalization: numbers fitted on training data; the identity when left out.

    Subclasses implement `network`.

    What an operator can do stands in class variables and in the methods `stages`, `groups`, `outer_maps`, `hidden` and
    `differentiable`; nobody asks of what class it is.

    Attributes:
        config: its architecture.
        domain: what it was trained on, as far as its answers hang on it.
        provenance: where it comes from, for its card.
        calibration: how wrong it was on samples it had not seen, see `scifm.models.bands`; None: nobody looked.
        recompute: compute the inside of `stages` again in the backward pass instead of keeping it.
    """

    needs_periodic: ClassVar[bool] = True
    """Whether `network` takes its axes as periodic; on a box with walls it is then given a periodic extension."""
    sees_frames: ClassVar[bool] = False
    """Whether `network` is given the frames of a history one behind the other, and not as channels of one frame."""
    uses_global_generator: ClassVar[bool] = True
    """Whether its code may draw from torch's global generator by other means than constructors of layers."""
    uses_all_weights: ClassVar[bool] = False
    """Whether its answer hangs on every weight, always; processes that train together look for idle ones where not."""
    any_resolution: ClassVar[bool] = False
    """Whether it answers on grids of other spacing than it was trained on, as one that takes fields for waves does."""
    can_recompute: ClassVar[bool] = False
    """Whether `network` calls its stages by `through`, so that `recompute` has an effect."""
    lead_time_is_coefficient: ClassVar[bool] = True
    """Whether a lead time it sees is the last coefficient `network` is given; else it is in `Encoded` alone."""
    counted_in: ClassVar[torch.dtype | None] = None
    """The precision in which torch sees every product it makes; None: any."""
    knows_one_problem: ClassVar[bool] = False
    """Whether it answers the one problem that it was trained on, as a network of coordinates does, and no other."""
    parts: ClassVar[Mapping[str, str]] = {}
    """What part in `groups` each child plays: ``lift``, ``projection``, or ``inner``, both spectral and pointwise."""
    answers_at_once: bool = True
    """Whether it asks `network` once for an answer; else it follows, stage by stage, what `network` says of each."""
    any_lead_time: bool = False
    """Whether it answers at lead times it was not trained at, as one does that learned a tendency."""

    def __init__(
        self, signature: Signature, config: OperatorConfig, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__(signature, config, normalization=normalization)
        if not signature.outputs:
            raise SignatureError(f"An operator answers something: it needs at least one output field; got {signature}.")
        if not signature.evolves and (self.history > 1 or self.sees_lead_time):
            raise ConfigError(
                f"history and lead_time are for what evolves; {', '.join(signature.outputs)} do not. Leave them out."
            )
        if config.holds is not None:
            config.holds.require(signature)
        self.domain, self.provenance, self.recompute = Domain(), Provenance(), False
        self.calibration = None
        self._held_on: tuple[Any, Holds, Holding] | None = None  # the last grid that something was held on
        self.normalization = normalization or Normalization.identity(
            num_inputs=len(signature.inputs),
            num_coefficients=len(signature.coefficients),
            num_outputs=len(signature.outputs),
        )

    def network(self, encoded: Encoded) -> Tensor:
        """Map what is encoded to ``(batch, 1, output, *space)``, the frame at the lead time.

        Channels of its inputs, one frame, are the input fields, the states of earlier frames of a history, the latest
        first, `num_masks` that tell where points of these are missing, and `num_positions` positions; where it
        ``sees_frames``, all frames, the latest last, and no earlier states. A lead time it sees is the last
        coefficient: the logarithm of its ratio to the typical one. On a box with walls the axes are longer than the
        grid's where ``needs_periodic``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it maps fields.")

    def stages(self) -> list[nn.Module]:
        """Return the parts that work one after the other: what is put together, and may be recomputed, one at a time.

        Each must be called with tensors. Left to itself: the members of lists of modules, else the children.
        """
        children = [child for child in self.children() if any(True for _ in child.parameters())]
        lists = [
            child for child in children if isinstance(child, nn.ModuleList) and type(child).forward is nn.Module.forward
        ]
        return [stage for child in lists for stage in child] or children

    def through(self, stage: nn.Module, *tensors: Any) -> Tensor:
        """Return what a stage answers, whose inside is computed again in the backward pass if that is asked for."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(stage, *tensors, use_reentrant=False)
        return stage(*tensors)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the weights by the part they play, each once, for fine-tuning that trains some of them.

        Known parts are ``lift``, ``spectral``, ``pointwise`` and ``projection``; those of children are told by `parts`.
        Empty where an operator has no such.
        """
        groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            part = self.parts.get(name.partition(".")[0])
            if part == "inner":  # the second name where an adapter stands before the weight
                part = "spectral" if name.endswith(("spectral_weight", "spectral_weight.original")) else "pointwise"
            if part is not None:
                groups.setdefault(part, []).append(parameter)
        return groups

    def outer_maps(self) -> OuterMaps | None:
        """Return where channels enter and leave, so that it can be given others; None where that cannot be told."""
        return None

    def hidden(self) -> Hidden | None:
        """Return how channels lie between its stages, for `features.features_of`; None where that cannot be told."""
        return None

    def weights_for(self, other: Self) -> dict[str, Tensor]:
        """Return its weights by name, the very tensors, as one of its kind takes them that sees other frames."""
        return self.state_dict(keep_vars=True)

    def plain_config(self) -> OperatorConfig:
        """Return its settings with every part in torch's own operations; as they are, where they have no other."""
        return self.config

    def differentiable(self) -> Self:
        """Return an operator with the same weights, shared, that has derivatives of every order."""
        plain = self.plain_config()
        return self if plain == self.config else self.with_config(plain)

    def with_config(self, config: OperatorConfig) -> Self:
        """Return an operator with the same weights, shared, and other settings; they leave shapes as they are."""
        with torch.device("meta"):
            twin = self._fresh(config)
        trained = [weight.requires_grad for weight in self.parameters()]
        twin.load_state_dict(self.state_dict(keep_vars=True), assign=True)
        for weight, trains in zip(twin.parameters(), trained, strict=True):
            weight.requires_grad_(trains)  # torch has just asked the fresh ones, which all do
        twin.domain, twin.provenance, twin.recompute = self.domain, self.provenance, self.recompute
        return twin.train(self.training)

    def holding(self, hold: Holds | None) -> Self:
        """Return an operator with the same weights, shared, whose answers hold something else; None: nothing.

        Raises:
            ConfigError: if it is not of its outputs.
        """
        if hold is not None:
            hold.require(self.signature)
        return self.with_config(self.config.holding(hold))

    def _fresh(self, config: OperatorConfig) -> Self:
        return type(self)(self.signature, config, normalization=self.normalization)

    def redraw(self, generator: torch.Generator) -> None:
        """Draw anew what each step of training draws; nothing, where nothing is drawn."""

    def align(self, batch: Batch) -> Batch:
        """Return the batch in this operator's order of names; a coefficient the batch lacks becomes zero.

        Raises:
            SignatureError: if the batch holds a name this operator does not know, lacks a field other than its training
                samples did, or asks for a lead time this operator was not trained at.
        """
        ours, theirs = self.signature, batch.signature
        aligned = batch if theirs == ours else in_names_of(ours, batch, knows_form=self.knows_form(theirs.fields))
        if not (torch.compiler.is_exporting() or self.any_lead_time):  # an export knows no numbers
            self.require_lead_times(batch.lead_times)
        return aligned

    def knows_form(self, fields: Iterable[str]) -> bool:
        """Return whether some of its training samples had just these fields, while others had others."""
        return set(fields) in map(set, self.domain.forms)

    def outside(self, batch: Batch) -> list[str]:
        """Return a sentence for each thing in which samples lie outside of what it was trained on; none: within."""
        return self.domain.outside(self.align(batch), self.normalization, any_resolution=self.any_resolution)

    @property
    def pace(self) -> Pace:
        """How it goes through time: the input frames it takes, the lead times it was trained at."""
        return Pace(self.history, self.domain.lead_times)

    def require_lead_times(self, asked: tuple[float, float] | None) -> None:
        """Check that it was trained at lead times from the shortest to the longest that are asked for; None: any.

        Raises:
            SignatureError: if it was not.
        """
        known = self.domain.lead_times
        if known is not None and asked is not None and not are_within(asked, known):
            raise SignatureError(
                f"The operator was trained at a lead time of {told_times(known)}, and {told_times(asked)} is "
                "asked for. Choose frames as far apart as those it was trained on (--set stride=…, or data.stride of a "
                "recipe), or train an operator for this lead time."
            )

    def forward(self, batch: Batch, *, through: int | None = None) -> Batch:
        """Return the same problems with this operator's answers as targets; several frames by `march` or `follow`.

        Where training samples had missing points, `valid_targets` says where an answer means something.

        Args:
            through: of several frames, how many steps gradients go back through at most; None: all.
        """
        batch = self.align(batch)
        if batch.inputs.shape[1] != self.history and not self.any_history:
            raise SignatureError(
                f"This operator of kind '{self.kind}' takes {plural(self.history, 'input frame')}; got "
                f"{batch.inputs.shape[1]}."
            )
        answered = self.domain.gaps.answered(batch)
        if batch.num_frames == 1:
            return batch.with_targets(self.next_frame(batch), answered)
        if batch.observed:
            answer = self.follow(batch)
        else:
            answer = torch.cat(list(self.march(batch, batch.num_frames, through=through)), dim=1)
        return batch.with_targets(answer, None if answered is None else answered.expand_as(answer))

    def each(self, batch: Batch, *, through: int | None = None) -> list[Batch]:
        """Return what each of its members answers, as `forward` does; of one that is no ensemble, its own answer.

        What is trained is trained on this: the mean of members may be right where none of them is.
        """
        return [self(batch, through=through)]

    def march(self, batch: Batch, num_steps: int, *, through: int | None = None) -> Iterator[Tensor]:
        """Yield frame after frame, ``(batch, 1, output, *space)``, each the answer to those before it.

        Args:
            batch: where it starts, aligned. Its lead times say how far each step reaches; later ones are as the last.
            num_steps: frames to yield.
            through: steps after which gradients stop, again and again; None: they go back to the start.

        Raises:
            SignatureError: if there is an output that is not a state, so that an answer is no next input.
        """
        return marched(self, batch, num_steps, through=through)

    def follow(self, batch: Batch) -> Tensor:
        """Return answers to all targets, each from the true frames before it, ``(batch, time, output, *space)``.

        Args:
            batch: aligned, with targets; those of earlier frames are known when a later one is asked for.

        Raises:
            SignatureError: if there is an output that is not a state, or there are no targets.
        """
        return followed(self, batch)

    @property
    def remembers(self) -> bool:
        """Whether an answer hangs on more frames than it is given: on those before them, on the same march."""
        return any(part.remembers for part in self._within())

    @property
    def any_history(self) -> bool:
        """Whether it takes any number of input frames, as one that reads them one after the other."""
        return any(part.any_history for part in self._within())

    def _within(self) -> Iterator[Operator]:
        return (part for part in self.modules() if isinstance(part, Operator) and part is not self)

    def encoded(self, batch: Batch) -> Encoded:
        """Return aligned samples as `network` is given them."""
        encoded = self.normalization.encode(batch)
        about = {"masks": self.num_masks > 0, "positions": self.num_positions > 0, "frames": self.sees_frames}
        inputs, coefficients = network_channels(encoded.inputs, batch, **about), encoded.coefficients
        if self.needs_periodic:
            inputs = extend_to_period(inputs, batch.grid)
        if self.sees_lead_time:
            if encoded.lead_time is None:
                raise SignatureError("This operator is told how far ahead it looks: give the batch a lead_time.")
            times = encoded.lead_time.log()[:, None] if self.lead_time_is_coefficient else coefficients[:, :0]
            coefficients = torch.cat([coefficients, times], dim=1)
        return replace(encoded, inputs=inputs, coefficients=coefficients, memory=batch.memory)

    def next_frame(self, batch: Batch) -> Tensor:
        """Return the answer to aligned samples, one frame, ``(batch, 1, output, *space)``, as it is held."""
        return self.held(self._next_frame(batch), batch)

    def held(self, answer: Tensor, batch: Batch) -> Tensor:
        """Return the nearest answer that holds what its settings say, ``(batch, 1, output, *space)``; differentiable.

        Args:
            answer: one frame, in physical units.
            batch: the question, aligned.

        Raises:
            ConfigError: if that cannot hold on this grid.
            SignatureError: if it is of another number of points, or of fields of which points are missing.
        """
        holds = self.config.holds
        if holds is None:
            return answer
        answered = self.domain.gaps.answered(batch)
        places = [self.signature.outputs.index(name) for name in holds.outputs]
        if set(holds.kept) & set(batch.gaps) or (answered is not None and not bool(answered[:, :, places].all())):
            raise SignatureError(
                "What a field with missing points holds is not known: fill them first, or take the field out of hold."
            )
        return self._holding(holds, batch.grid, answer.device)(answer, batch)

    def _holding(self, holds: Holds, grid: Grid, device: torch.device) -> Holding:
        key = (holds.outputs, tuple(map(int, grid.num_points)), grid.extent, grid.boundary, device)
        if self._held_on is None or self._held_on[0] != key or self._held_on[1] is not holds:
            where = Grid(key[1], grid.extent, grid.boundary)  # of an export numbers of points are symbols
            self._held_on = key, holds, Holding(holds, self.signature, where).to(device)
        return self._held_on[2]

    def _next_frame(self, batch: Batch) -> Tensor:
        encoded = self.encoded(batch)
        return encoded.decode(cropped(self.network(encoded), batch.grid))

    @overload
    def predict(self, problems: Batch, *, batch_size: int = 64, strict: bool = False) -> Batch: ...

    @overload
    def predict(
        self,
        problems: Mapping[str, Any],
        *,
        batch_size: int = 64,
        strict: bool = False,
        extent: float | Sequence[float] | None = None,
        boundary: Boundary | Sequence[Boundary] | None = None,
        lead_time: float | None = None,
        num_steps: int = 1,
        system: str = "",
        level: float | None = None,
    ) -> dict[str, Any]: ...

    def predict(
        self, problems: Batch | Mapping[str, Any], *, batch_size: int = 64, strict: bool = False, **asked: Any
    ) -> Batch | dict[str, Any]:
        """Answer any number of samples, and say where they lie outside of what the operator was trained on.

        The work is done on the device and in the precision of the weights; answers come back in those of the samples.

        Args:
            problems: a batch, or arrays by name as `Question.of` takes them: ``{"forcing": array, "viscosity": 0.01}``.
            batch_size: samples answered at a time.
            strict: refuse what lies outside instead of warning.
            extent, boundary: of arrays, their box, as of `Grid`; that of the training when left out.
            lead_time: of arrays, the physical time of a step; that of the training when left out.
            num_steps: of arrays, how many steps to march.
            system: of arrays, which system they are of, by name, where the operator is told equations.
            level: of arrays, the probability of bands around the answers, of an operator that was calibrated; of a
                batch `scifm.bands` has them.

        Returns:
            A batch with answers as its targets; of arrays the outputs by name, ``(sample, step, *space)`` without the
            axes that were not asked for: tensors where a field was one, else NumPy's; with `level` also
            ``NAME_low`` and ``NAME_high``.

        Raises:
            ConfigError: if an argument is of arrays only.
            DataError: if arrays hold NaN.
            SignatureError: if names or shapes do not fit, or what was asked lies outside and `strict` is set.
        """
        if isinstance(problems, Batch):
            if asked:
                raise ConfigError(f"A batch says itself what {', '.join(asked)} would: leave it out.")
            self._require_inside(problems, strict)
            return self.answers(problems, batch_size=batch_size)
        about: dict[str, Any] = {"history": self.history, "sees_lead_time": self.sees_lead_time}
        about["any_history"] = self.any_history
        about["takes_terms"] = self.config.wants_terms
        level = asked.pop("level", None)
        question = Question.of(problems, self.signature, self.domain, **about, **asked)
        self._require_inside(question.batch, strict)
        if level is not None:
            banded = bands(self, question.batch, level, batch_size=batch_size)
            if told := banded.unlike():
                warnings.warn(told, OutsideWarning, stacklevel=2)
            return question.between(banded)
        answered = self.answers(question.batch, batch_size=batch_size)
        return question.answers(answered.without_absent(question.batch.signature))

    def _require_inside(self, batch: Batch, strict: bool) -> None:
        if not (outside := self.outside(batch)):
            return
        told = f"The operator is asked beyond what it was trained on: {'; '.join(outside)}."
        if strict:
            raise SignatureError(f"{told} Fine-tune it on some such samples, or ask without strict.")
        warnings.warn(f"{told} Do not trust it there without samples to check by.", OutsideWarning, stacklevel=3)

    @property
    def num_members(self) -> int:
        """How many answers it has to a question: more than one of an ensemble."""
        return 1

    @torch.no_grad()
    def spread(self, batch: Batch, *, batch_size: int = 64) -> Float[Tensor, "member batch time output *space"]:
        """Return what each of its members answers to any number of samples, wherever they lie, in physical units.

        Of several frames every member marches by itself. Answers are asked for as in `answers`.
        """
        parts = []
        with evaluating(self):
            for part in self.align(batch).batches(batch_size):
                answers = self.each(part.to(*self.home))
                parts.append(torch.stack([answer.require_targets().to(part.inputs) for answer in answers]))
        return torch.cat(parts, dim=1)

    @torch.no_grad()  # not inference_mode: weights that lie in shares would be gathered into tensors of that mode
    def answers(self, batch: Batch, *, batch_size: int = 64) -> Batch:
        """Answer any number of samples, as `predict` does, wherever they lie."""
        parts = []
        with evaluating(self):
            for part in self.align(batch).batches(batch_size):
                answer = self(part.to(*self.home))
                parts.append(part.with_targets(answer.targets.to(part.inputs), answer.valid_targets))
        return Batch.concatenate(parts)

    @property
    def home(self) -> tuple[torch.device, torch.dtype]:
        """The device and the precision of its weights."""
        weight = next(p for p in self.parameters() if p.is_floating_point())
        return weight.device, weight.dtype

    @property
    def history(self) -> int:
        """How many input frames it takes."""
        return getattr(self.config, "history", None) or 1

    @property
    def sees_lead_time(self) -> bool:
        """Whether it is told how far ahead it looks."""
        return bool(getattr(self.config, "lead_time", None))

    @property
    def num_channels(self) -> int:
        """Channels of fields that `network` is given."""
        return self._num_fields + self.num_masks + self.num_positions

    @property
    def _num_fields(self) -> int:
        earlier = 0 if self.sees_frames else self.history - 1
        return len(self.signature.inputs) + earlier * len(self.signature.state)

    @property
    def num_masks(self) -> int:
        """How many of them tell where points of the fields are missing: one for each, or none."""
        return self._num_fields if getattr(self.config, "mask_channels", None) else 0

    @property
    def num_coefficients(self) -> int:
        """Numbers that `network` is given beside the fields: coefficients, and the lead time where it is seen."""
        return len(self.signature.coefficients) + (self.sees_lead_time and self.lead_time_is_coefficient)

    @property
    def num_positions(self) -> int:
        """How many of them tell where a point lies: one for each axis, or none."""
        return self.signature.num_spatial_dims if getattr(self.config, "position", None) else 0
