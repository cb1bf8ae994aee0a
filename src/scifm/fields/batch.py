"""`Signature` and `Batch`: what a data set offers, and the one object that travels through the house.

Form of a batch (``S`` spatial axes, x last)::

    inputs        (batch, time, input field, *space)
    coefficients  (batch, coefficient)              constants of the equation, one number a sample
    targets       (batch, time, output field, *space), or None when only inputs are known

    lead_time     (batch, time)                     of evolving systems: from the last input frame to each target frame
    present       (batch, name)                     what each sample has, where several systems with other fields meet
    valid_inputs, valid_targets                     of the shape of inputs and targets: at which points numbers count,
                                                    where some are missing (land, obstacles, clouds)

Steady problems have one input frame and one target frame. Of an evolving system a **state** field stands in both roles
under one name, earlier as input and later as target; what is an input only does not change in time. Several input
frames are its history, oldest first and as far apart as the first target is from the last of them; several target
frames are a forecast. A whole trajectory is its first frame as input and all others as targets. Channels are found by
**name** through the signature, never by position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scifm.errors import SignatureError, suggest
from scifm.fields.grid import Grid
from scifm.fields.memory import Memory
from scifm.fields.signature import Signature
from scifm.fields.window import told_times
from scifm.prompt import Shown
from scifm.wording import plural

__all__ = ["Batch", "Signature"]

_TENSORS = (
    "inputs",
    "coefficients",
    "targets",
    "lead_time",
    "loss_weights",
    "present",
    "valid_inputs",
    "valid_targets",
    "group",
)  # of a batch; of the last seven any is None


_ROLES = {"inputs": "inputs", "coefficients": "coefficients", "targets": "outputs"}


def _position(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise SignatureError(suggest(name, names))
    return names.index(name)


def _chosen(fields: Tensor, ours: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """Return the channels ``(batch, time, channel, *space)`` of the names that are wanted, zero where there is none."""
    nothing = None if set(wanted) <= set(ours) else torch.zeros_like(fields[:, :, 0])
    parts = [fields[:, :, ours.index(name)] if name in ours else nothing for name in wanted]
    return torch.stack([part for part in parts if part is not None], dim=2)


@dataclass(frozen=True, repr=False)
class Batch(Shown):
    """Samples of one signature on one grid; checks its own shapes at birth.

    Args:
        signature: names of everything below.
        grid: where the fields live.
        inputs: ``(batch, time, len(signature.inputs), *grid.num_points)``.
        coefficients: ``(batch, len(signature.coefficients))``.
        targets: ``(batch, time, len(signature.outputs), *grid.num_points)`` or None.
        systems: name of the system each sample came from, length ``batch``; empty when unknown.
        lead_time: ``(batch, time)`` physical time from the last input to each target, positive and increasing; without
            targets, to each frame that is asked for. None for steady problems, and where nobody says.
        loss_weights: ``(batch,)`` how much each sample counts in a loss; None: all alike.
        present: ``(batch, len(signature.names))`` bool: which fields and coefficients each sample has, in the order of
            ``signature.names``; what it has not is zero and means nothing. None: all have all fields, and a coefficient
            that is zero is just that.
        valid_inputs, valid_targets: bool, of the shape of `inputs` and `targets`: at which points their numbers count;
            what stands at the others means nothing, whatever it is. None: all count, and so it is kept where all do.
        group: ``(batch,)`` whole numbers, the same for samples of different problems that were drawn with the same
            knobs, whether their coefficients are told or not. None: nobody says which were.
        observed: whether each target frame is asked for when the true ones before it are known, see `Window`.
        memory: of a question on a march, what its operator remembers of the frames before, see `Memory`.

    Raises:
        SignatureError: if a shape does not follow from the signature and the grid, or lead times are not positive.
    """

    signature: Signature
    grid: Grid
    inputs: Tensor
    coefficients: Tensor
    targets: Tensor | None = None
    systems: tuple[str, ...] = ()
    lead_time: Tensor | None = None
    loss_weights: Tensor | None = None
    present: Tensor | None = None
    valid_inputs: Tensor | None = None
    valid_targets: Tensor | None = None
    group: Tensor | None = None
    observed: bool = False
    memory: Memory | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.grid.num_spatial_dims != self.signature.num_spatial_dims:
            raise SignatureError(
                f"The grid has {plural(self.grid.num_spatial_dims, 'axis', 'axes')}, the signature "
                f"{self.signature.num_spatial_dims}."
            )
        self._check_fields("inputs", self.inputs, self.signature.inputs)
        expected = (self.inputs.shape[0], len(self.signature.coefficients))
        if tuple(self.coefficients.shape) != expected:
            raise SignatureError(
                f"coefficients must have shape {expected} for {self.signature.coefficients}; "
                f"got {tuple(self.coefficients.shape)}."
            )
        if self.targets is not None:
            self._check_fields("targets", self.targets, self.signature.outputs)
        for name in ("loss_weights", "group"):
            own = getattr(self, name)
            if own is not None and tuple(own.shape) != (self.num_samples,):
                raise SignatureError(f"{name} must have shape ({self.num_samples},); got {tuple(own.shape)}.")
        self._check_lead_time()
        self._check_presence()
        for role in ("inputs", "targets"):
            self._check_validity(f"valid_{role}", getattr(self, role))
        if self.systems and len(self.systems) != self.num_samples:
            raise SignatureError(
                f"systems must name every one of {plural(self.num_samples, 'sample')}; got "
                f"{plural(len(self.systems), 'name')}."
            )

    def _check_lead_time(self) -> None:
        if self.lead_time is None:
            return
        if not self.signature.evolves:
            raise SignatureError(
                "A steady problem has no lead_time; give evolves=True in the signature, or leave it out."
            )
        num_frames = self.lead_time.shape[-1] if self.targets is None else self.targets.shape[1]
        if tuple(self.lead_time.shape) != (self.num_samples, num_frames):
            raise SignatureError(
                f"lead_time must have shape {(self.num_samples, num_frames)}, a time for each sample and target frame; "
                f"got {tuple(self.lead_time.shape)}."
            )
        # numbers that come from the host were looked at there: elsewhere it would stop the device at every birth
        if self.lead_time.device.type == "cpu" and not torch.compiler.is_exporting():
            steps = self.lead_steps
            assert steps is not None
            bad = ~(torch.isfinite(steps) & (steps > 0))
            if bad.any():
                raise SignatureError(
                    "A lead_time is positive and finite, and later for each frame than for the one before; got "
                    f"{[float(f'{time:g}') for time in self.lead_time[bad.any(dim=1)][0]]}."
                )

    def _check_presence(self) -> None:
        if self.present is None:
            return
        expected = (self.num_samples, len(self.signature.names))
        if tuple(self.present.shape) != expected or self.present.dtype != torch.bool:
            raise SignatureError(
                f"present must be bool of shape {expected}, a column for each of {self.signature.names}; got "
                f"{self.present.dtype} of shape {tuple(self.present.shape)}."
            )

    def _check_validity(self, name: str, fields: Tensor | None) -> None:
        valid = getattr(self, name)
        if valid is None:
            return
        if fields is None or valid.shape != fields.shape or valid.dtype != torch.bool:
            expected = "None, as there are no targets" if fields is None else f"bool of shape {tuple(fields.shape)}"
            raise SignatureError(f"{name} must be {expected}; got {valid.dtype} of shape {tuple(valid.shape)}.")
        # a mask that hides nothing is none; elsewhere than on the host looking would stop the device at every birth
        if valid.device.type == "cpu" and not torch.compiler.is_exporting() and bool(valid.all()):
            object.__setattr__(self, name, None)

    def _check_fields(self, role: str, fields: Tensor, names: tuple[str, ...]) -> None:
        shape = tuple(fields.shape)
        space = self.grid.num_points
        if len(shape) != 3 + len(space) or shape[2] != len(names) or shape[3:] != space:
            raise SignatureError(
                f"{role} must have shape (batch, time, {len(names)}, {', '.join(map(str, space))}) for {names}; "
                f"got {shape}."
            )
        if shape[0] != self.inputs.shape[0]:
            raise SignatureError(f"{role} hold {plural(shape[0], 'sample')}, inputs hold {self.inputs.shape[0]}.")

    @property
    def num_samples(self) -> int:
        return self.inputs.shape[0]

    def __len__(self) -> int:
        return self.num_samples

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        names, times = self.signature, self.lead_times
        parts = [(role, getattr(self, role), getattr(names, of)) for role, of in _ROLES.items()]
        shown = [(role, tensor.shape, own) for role, tensor, own in parts if tensor is not None]
        width = max(len(str(tuple(shape))) for _, shape, _ in shown)
        rows = [(role, f"{tuple(shape)!s:{width}}  {', '.join(own)}") for role, shape, own in shown if own]
        rows += [("lead time", "" if times is None else told_times(times)), ("grid", self.grid.told)]
        kind = f"{str(self.inputs.dtype).removeprefix('torch.')} on {self.inputs.device}"
        return f"Batch: {plural(self.num_samples, 'sample')}, {kind}", rows

    @property
    def num_frames(self) -> int:
        """Frames that are given as targets, or asked for."""
        if self.targets is not None:
            return self.targets.shape[1]
        return 1 if self.lead_time is None else self.lead_time.shape[1]

    @property
    def lead_steps(self) -> Tensor | None:
        """Physical time from each frame to the next, ``(batch, time)``, the first from the last input frame."""
        if self.lead_time is None:
            return None
        return self.lead_time.diff(dim=1, prepend=self.lead_time.new_zeros(len(self.lead_time), 1))

    @cached_property  # on a GPU it has to be waited for, and every step of a training asks twice
    def lead_times(self) -> tuple[float, float] | None:
        """The shortest and the longest time from one frame to the next; None where there is none."""
        steps = self.lead_steps
        if steps is None or not steps.numel():
            return None
        return float(steps.min()), float(steps.max())

    def field(self, name: str) -> Tensor:
        """Return one named field, the input where it is input and target, as ``(batch, time, *space)``."""
        if name in self.signature.inputs:
            return self.inputs[:, :, self.signature.inputs.index(name)]
        return self.target(name)

    def target(self, name: str) -> Tensor:
        """Return one named target as ``(batch, time, *space)``."""
        if self.targets is None:
            raise SignatureError(f"This batch has no targets, so no '{name}'; inputs: {self.signature.inputs}.")
        return self.targets[:, :, _position(name, self.signature.outputs)]

    def coefficient(self, name: str) -> Tensor:
        """Return one named coefficient as ``(batch,)``."""
        return self.coefficients[:, _position(name, self.signature.coefficients)]

    def has(self, names: Sequence[str]) -> Tensor | None:
        """Return which of these fields and coefficients each sample has, ``(batch, name)`` bool; None: all have all."""
        if self.present is None:
            return None
        return self.present[:, [_position(name, self.signature.names) for name in names]]

    def valid(self, name: str) -> Tensor | None:
        """Return at which points a field counts, of the shape of `field`; None: at all."""
        if name in self.signature.inputs:
            valid = self.valid_inputs
            return None if valid is None else valid[:, :, self.signature.inputs.index(name)]
        return self.valid_target(name)

    def valid_target(self, name: str) -> Tensor | None:
        """Return at which points a target counts, of the shape of `target`; None: at all."""
        place = _position(name, self.signature.outputs)
        return None if self.valid_targets is None else self.valid_targets[:, :, place]

    def counted(self) -> Tensor | None:
        """Return which targets have something that counts, ``(batch, time, output)`` bool; None: all have.

        A field that a sample lacks does not, nor does a frame of one in which every point is missing.
        """
        there, valid = self.has(self.signature.outputs), self.valid_targets
        if valid is None:
            return None if there is None else there[:, None].expand(-1, self.num_frames, -1)
        some = valid.flatten(3).any(dim=-1)
        return some if there is None else some & there[:, None]

    @property
    def gaps(self) -> tuple[str, ...]:
        """Names of the fields that have missing points."""
        names, found = self.signature, set[str]()
        for valid, own in ((self.valid_inputs, names.inputs), (self.valid_targets, names.outputs)):
            if valid is not None:
                missing = (~valid).transpose(1, 2).flatten(2).any(dim=2)
                there = self.has(own)
                missing = (missing if there is None else missing & there).any(dim=0)
                found |= {name for name, has in zip(own, missing.tolist(), strict=True) if has}
        return tuple(name for name in names.fields if name in found)

    def of_form(self, fields: Sequence[str]) -> Tensor:
        """Return which samples have just these fields, ``(batch,)`` bool."""
        wanted = [name in fields for name in self.signature.fields]
        there = self.has(self.signature.fields)
        if there is None:
            return self.inputs.new_full((self.num_samples,), all(wanted), dtype=torch.bool)
        return (there == there.new_tensor(wanted)).all(dim=1)

    @property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        """The sets of fields that samples have, each once, in the order in which they come; none where all have all."""
        there = self.has(self.signature.fields)
        if there is None:
            return ()
        rows = dict.fromkeys(tuple(row) for row in there.tolist())
        return tuple(
            tuple(name for name, there in zip(self.signature.fields, row, strict=True) if there) for row in rows
        )

    def require_targets(self) -> Tensor:
        """Return the targets, or say that there are none."""
        if self.targets is None:
            raise SignatureError("This batch has no targets; give one with solutions, for example from a store.")
        return self.targets

    def with_targets(self, targets: Tensor | None, valid: Tensor | None = None) -> Batch:
        """Return the same problems with other (or no) targets, and where they count: how an operator answers."""
        return replace(self, targets=targets, valid_targets=valid)

    def aligned(self, signature: Signature) -> Batch:
        """Return the samples in the order of names of another signature.

        A coefficient they lack becomes zero; so does a field, and `present` says that it is not there.

        Raises:
            SignatureError: if they hold a name `signature` does not.
        """
        ours = self.signature
        if ours == signature:
            return self
        unknown = signature.missing_from(ours)
        if unknown:
            raise SignatureError(
                f"Cannot bring samples with {ours} into the form of {signature}: {', '.join(unknown)} would be lost."
            )
        return self._in_form(signature)

    def without_absent(self, signature: Signature) -> Batch:
        """Return the samples with the names of a smaller signature alone: the rest is what they never had.

        Raises:
            SignatureError: if `signature` holds a name they lack.
        """
        missing = self.signature.missing_from(signature)
        if missing:
            raise SignatureError(f"These samples have no {', '.join(missing)}; they hold {self.signature}.")
        if self.signature == signature:
            return self
        fewer = self._in_form(signature)
        whole = fewer.present is not None and bool(fewer.present.all())
        return replace(fewer, present=None) if whole else fewer

    def _in_form(self, signature: Signature) -> Batch:
        names = self.signature
        nothing = self.coefficients.new_zeros(self.num_samples)
        columns = [self.coefficient(name) if name in names.coefficients else nothing for name in signature.coefficients]
        coefficients = torch.stack(columns, dim=1) if columns else self.coefficients[:, :0]
        return replace(
            self,
            signature=signature,
            inputs=_chosen(self.inputs, names.inputs, signature.inputs),
            coefficients=coefficients,
            targets=None if self.targets is None else _chosen(self.targets, names.outputs, signature.outputs),
            **self._valid_in(signature),
            present=self._present_in(signature),
        )

    def _valid_in(self, signature: Signature) -> dict[str, Any]:
        names = self.signature
        masks = (("inputs", "inputs", self.valid_inputs), ("targets", "outputs", self.valid_targets))
        return {
            f"valid_{role}": None if valid is None else _chosen(valid, getattr(names, of), getattr(signature, of))
            for role, of, valid in masks
        }

    def _present_in(self, signature: Signature) -> Tensor | None:
        names = self.signature.names
        if self.present is None and set(signature.fields) <= set(names):
            return None
        absent = torch.zeros(self.num_samples, dtype=torch.bool, device=self.inputs.device)
        there = [
            absent if name not in names else ~absent if self.present is None else self.present[:, names.index(name)]
            for name in signature.names
        ]
        return torch.stack(there, dim=1)

    def select(self, index: Tensor | Sequence[int] | slice) -> Batch:
        """Return some of the samples, in the order of `index`."""
        systems = self.systems
        if isinstance(index, slice):
            return replace(self, **self._each(lambda tensor: tensor[index]), systems=systems[index])
        index = torch.as_tensor(index, dtype=torch.long, device=self.inputs.device)
        systems = tuple(systems[i] for i in index.tolist()) if systems else ()
        return replace(self, **self._each(lambda tensor: tensor[index]), systems=systems)

    def _each(self, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Return every tensor changed, by name; one that is not there stays None."""
        tensors = ((name, getattr(self, name)) for name in _TENSORS)
        return {name: None if tensor is None else change(tensor) for name, tensor in tensors}

    # --- as `scifm.fields.samples.Samples`, so that nobody asks whether samples lie in memory or on disk --------------

    @property
    def num_problems(self) -> int:
        """Drawn problems: every sample in memory counts as one."""
        return self.num_samples

    batch = problems = select

    def some(self, count: int) -> Batch:
        """Return the first `count` samples, fewer where there are no more."""
        return self.select(slice(0, count))

    def in_memory(self, at_most: int) -> Batch:
        """Return all samples, however many: they are in memory."""
        return self

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all samples in order, `batch_size` at a time."""
        for start in range(0, self.num_samples, batch_size):
            yield self.select(slice(start, start + batch_size))

    def pieces(self, batch_size: int) -> Iterator[Batch]:
        """Yield the samples whole, if there are any."""
        if self.num_samples:
            yield self

    def describe(self) -> dict[str, Any]:
        """Return what a batch says of its samples: systems, the range of each coefficient, a hash of all numbers."""
        names, values = self.signature.coefficients, self.coefficients.detach().cpu()
        ranges = {}
        if len(values) and values.isfinite().all():
            ranges = {name: [float(f"{v:.6g}") for v in values[:, i].aminmax()] for i, name in enumerate(names)}
        content = hashlib.sha256()
        masks = (self.present, self.valid_inputs, self.valid_targets)
        for tensor in (self.inputs, self.coefficients, self.targets, self.lead_time, *masks):
            if tensor is not None:
                content.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
        return {"batch": content.hexdigest()[:16], "systems": sorted(set(self.systems)), "coefficients": ranges}

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> Batch:
        """Return the batch on another device or in another precision."""
        moved = replace(
            self,
            **self._each(lambda part: part.to(device=device, dtype=dtype if part.is_floating_point() else None)),
        )
        if self.lead_time is not None and self.lead_time.device.type == "cpu":
            moved.__dict__["lead_times"] = self.lead_times  # said on the host, where nobody waits for it
        return moved

    def _saying_what_is_there(self) -> Batch:
        if self.present is not None:
            return self
        size = (self.num_samples, len(self.signature.names))
        return replace(self, present=torch.ones(size, dtype=torch.bool, device=self.inputs.device))

    def _saying_where(self, name: str) -> Tensor | None:
        """Return the mask of that name: of ones where there is none, None where there are no fields either."""
        fields, valid = getattr(self, name.removeprefix("valid_")), getattr(self, name)
        return torch.ones_like(fields, dtype=torch.bool) if valid is None and fields is not None else valid

    @staticmethod
    def concatenate(batches: Iterable[Batch]) -> Batch:
        """Join batches of one signature and grid along the sample axis.

        Raises:
            SignatureError: if there are none, or they differ.
        """
        parts = list(batches)
        if not parts:
            raise SignatureError("Nothing to concatenate: give at least one batch.")
        first = parts[0]
        if any(p.signature != first.signature or p.grid != first.grid for p in parts):
            raise SignatureError("Only batches of one signature on one grid can be concatenated.")

        if any(part.present is not None for part in parts):
            parts = [part._saying_what_is_there() for part in parts]
        joined: dict[str, Any] = {}
        for name in _TENSORS:
            tensors = [tensor for part in parts if (tensor := getattr(part, name)) is not None]
            if tensors and name.startswith("valid_"):
                tensors = [tensor for part in parts if (tensor := part._saying_where(name)) is not None]
            if len(tensors) not in (0, len(parts)):
                what = "targets, lead times, loss weights or groups"
                raise SignatureError(f"Some of the batches have {what}, and some have not.")
            joined[name] = torch.cat(tensors) if tensors else None
        return replace(first, **joined, systems=tuple(name for part in parts for name in part.systems))
