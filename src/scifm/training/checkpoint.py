"""The state of a training run on disk: enough that a resumed run equals one never stopped, bit for bit.

::

    state/
      step-00000500.safetensors    weights, optimizer moments, generators; step, best score and the like in its header
      step-00001000.safetensors    the newest; the one before is kept in case it is damaged

A state is one file, written aside, flushed and renamed, so a crash at any moment leaves the states before it. A SHA-256
of everything in it stands in its header and is checked when it is read: no second file has to agree with it. Kept are
the newest two, the one with the best validation score so far, and every k-th step where that is asked for; older ones
go only after the new one is in place.

Before the weights move, the loss and the norm of the whole gradient are looked at: where one is not finite, the step
and its batch are recorded beside the states. `benchmarks/guards.py` measures what that takes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from scifm.data.stream import BatchSource, Epochs
from scifm.errors import RunError, cause_of
from scifm.fields.batch import Batch
from scifm.runs import require_space, write_atomically, write_json
from scifm.training.optimizers import flattened_state, restored_state
from scifm.training.processes import ALONE, World
from scifm.training.weights import bytes_of, placed_like, whole

__all__ = ["Checkpoint", "DivergedError", "Position", "Restored", "require_finite"]

_NAME = re.compile(r"step-(\d{8,})\.safetensors")
_SET_ASIDE = "damaged-"
_NEWEST = 2  # states that stay
_LARGEST_BATCH = 64 * 2**20  # bytes of a batch that is kept with a failure
SPIKE_FACTOR = 4.0  # times the median of the losses before
SPIKE_WINDOW = 50  # steps the median is taken over
SPIKE_FEWEST = 20  # steps before anything is called a spike


class DivergedError(RunError):
    """The loss or a gradient became NaN or infinite."""


@dataclass
class Position:
    """Where a training run stands.

    Args:
        step: optimizer steps taken.
        best_score: lowest validation score so far.
        best_step: when it was reached.
        seconds: time spent training, over all sittings.
        loss_sum: losses summed since the last log line.
        optimizer_bytes: memory of the optimizer's state; None before the first step.
        gradient_bytes: memory of the gradients; None before the first step.
        recent_losses: of the last steps, to tell a spike by.
        spiking: whether the last loss was one of a spike.
    """

    step: int = 0
    best_score: float = float("inf")
    best_step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    optimizer_bytes: int | None = None
    gradient_bytes: int | None = None
    recent_losses: list[float] = field(default_factory=list)
    spiking: bool = False

    def note_loss(self, loss: float) -> float | None:
        """Remember the loss of a step; return its size, as a multiple of the usual, if a spike begins with it.

        A loss is high when it is more than 4 times the median of the 50 before (at least 20). A spike is a row of high
        losses: it is told once. The rule looks at losses alone, and they are part of the saved state, so a resumed run
        tells the same spikes.
        """
        recent = self.recent_losses
        size = None
        was_high, self.spiking = self.spiking, False
        if len(recent) >= SPIKE_FEWEST:
            usual = statistics.median(recent)
            self.spiking = loss > SPIKE_FACTOR * usual
            if self.spiking and not was_high and usual > 0:
                size = loss / usual
        self.recent_losses = [*recent[1 - SPIKE_WINDOW :], loss]
        return size


@dataclass(frozen=True)
class Restored:
    """What was found on disk.

    Args:
        position: where training goes on.
        best: the best weights so far, by name; empty when they are not asked for.
        average: the moving average of weights, by name; empty when there is none.
        damaged: why each newer state was passed over, by file name.
    """

    position: Position
    best: dict[str, Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


class Checkpoint:
    """Saves and loads training state in a folder. Only one process may do so at a time: `Run.locked`.

    Args:
        folder: the ``state`` folder of a run.
        world: processes that train together. All must save and load; the first of them writes.
    """

    def __init__(self, folder: Path, world: World = ALONE) -> None:
        self.folder = folder
        self.world = world

    def files(self) -> dict[int, Path]:
        """Return the states on disk by step, the newest first."""
        states = {int(m[1]): file for file in self.folder.glob("step-*") if (m := _NAME.fullmatch(file.name))}
        return dict(sorted(states.items(), reverse=True))

    def save(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        position: Position,
        best: Mapping[str, Tensor],
        *,
        average: Mapping[str, Tensor] | None = None,
        generators: Sequence[torch.Generator] = (),
        keep_every: int | None = None,
    ) -> None:
        """Write everything, then let go of what need not be kept.

        Args:
            best: the best weights so far, or nothing when they are not asked for.
            average: the moving average of weights, if there is one.
            generators: of what is drawn while training, in this process, one for each kind of device.
            keep_every: keep the states of steps that this divides.

        Raises:
            RunError: if there is no room, or it cannot be written; the states before stay.
        """
        named = [(f"weights/{name}", tensor) for name, tensor in module.state_dict().items()]
        for name, parameter in module.named_parameters():
            state = flattened_state(optimizer.state.get(parameter, {}))
            named += [(f"optimizer/{key}/{name}", value) for key, value in state]
        for kind, beside in (("best", best), ("average", average or {})):
            named += [(f"{kind}/{name}", tensor) for name, tensor in beside.items()]
        for each in generators:  # those of every process, (process, bytes)
            named.append((f"generator/{each.device.type}", self.world.gather(each.get_state()[None])))
        tensors = {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in named}
        if not self.world.is_first:
            return
        message = json.dumps(asdict(position))
        content = save(tensors, metadata={"position": message, "sha256": _digest(message, tensors)})
        require_space(self.folder, len(content))
        write_atomically(self.folder / f"step-{position.step:08d}.safetensors", content)
        self._prune(position, keep_every)

    def load(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, generators: Sequence[torch.Generator] = ()
    ) -> Restored:
        """Restore the newest state that is whole; a fresh position when nothing was saved yet.

        Newer ones that are damaged are set aside, under another name.

        Raises:
            RunError: if no state is whole, or it belongs to another network.
        """
        if self.world.is_first:  # what killed processes were writing goes, and the record of an old failure
            records = [self.folder.parent / name for name in ("failure.json", "failure.safetensors")]
            _remove([*self.folder.glob(".*.part"), *records])
        self.world.wait()
        damaged: dict[str, str] = {}
        for step, file in self.files().items():
            try:
                position, tensors = _read(file, step)
            except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
                cause = cause_of(error)
                if cause is not None:  # nothing is set aside that can be read another time
                    raise RunError(f"The training state '{file}' cannot be read: {cause}") from error
                damaged[file.name] = " ".join(str(error).split())[:200] or type(error).__name__
                continue
            _restore(module, optimizer, generators, tensors, file, self.world)
            self.world.wait()
            if self.world.is_first:
                for name in damaged:
                    with _managing(self.folder / name, "rename"):
                        (self.folder / name).replace(self.folder / f"{_SET_ASIDE}{name}")
            return Restored(position, _under("best/", tensors), _under("average/", tensors), damaged)
        if damaged:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in damaged.items())
            raise RunError(
                f"No training state in '{self.folder}' is whole ({reasons}). Delete that folder to train from the "
                "beginning; the log and any finished model stay."
            )
        return Restored(Position(), {})

    def _prune(self, position: Position, keep_every: int | None) -> None:
        files = self.files()
        needed = {*list(files)[:_NEWEST], position.best_step}
        spare = [f for s, f in files.items() if s not in needed and not (keep_every and s % keep_every == 0)]
        aside = [f for f in self.folder.glob(f"{_SET_ASIDE}*") if f.name <= f"{_SET_ASIDE}step-{position.step:08d}~"]
        _remove([*spare, *aside])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _digest(position: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of everything that is restored: names, kinds, shapes, bytes."""
    digest = hashlib.sha256(position.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(file: Path, step: int) -> tuple[Position, dict[str, Tensor]]:
    """Return what a file holds; a ValueError, OSError, KeyError or SafetensorError says that it is damaged."""
    with safe_open(file, framework="pt") as handle:
        metadata = handle.metadata() or {}
        # as copies: tensors of a mapped file can lie misaligned, and complex ones then end the process
        tensors: dict[str, Tensor] = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
    message = metadata["position"]
    if metadata["sha256"] != _digest(message, tensors):
        raise ValueError("its checksum does not match its content")
    position = TypeAdapter(Position).validate_json(message)
    if position.step != step:
        raise ValueError(f"it is the state of step {position.step}")
    return position, tensors


def _restore(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    generators: Sequence[torch.Generator],
    tensors: dict[str, Tensor],
    file: Path,
    world: World,
) -> None:
    try:
        own = module.state_dict()
        weights = _under("weights/", tensors)
        module.load_state_dict({name: placed_like(t, own[name]) if name in own else t for name, t in weights.items()})
        parameters = dict(module.named_parameters())
        remembered: dict[str, dict[str, Tensor]] = {}
        for name, tensor in _under("optimizer/", tensors).items():
            key, parameter_name = name.split("/", 1)
            # counters stay where the optimizer made them; moments go beside their parameter
            moved = tensor if tensor.dim() == 0 else placed_like(tensor, parameters[parameter_name])
            remembered.setdefault(parameter_name, {})[key] = moved
        for parameter_name, state in remembered.items():
            optimizer.state[parameters[parameter_name]].update(restored_state(state))
        # with more processes or other devices than were saved the rest begin anew: nothing of theirs was ever drawn
        for generator in generators:
            states = tensors.get(f"generator/{generator.device.type}", ())
            if world.rank < len(states):
                generator.set_state(states[world.rank].clone())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"The training state '{file}' belongs to another network ({error}). Delete the folder '{file.parent}' to "
            "train from the beginning; the log and any finished model stay."
        ) from error


@contextmanager
def _managing(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot {what} '{file}': {error.strerror or error}. Is the folder writable?") from error


def _remove(files: list[Path]) -> None:
    for file in files:
        with _managing(file, "remove"):
            file.unlink(missing_ok=True)


def require_finite(
    loss: float,
    norm: float,
    *,
    step: int,
    learning_rate: float,
    batch: Batch,
    source: BatchSource,
    checkpoint: Checkpoint | None,
) -> None:
    """Check the loss and the gradient of a step before the weights move.

    Args:
        step: counted from 0, as `source` counts.
        checkpoint: beside it ``failure.json`` is written, and ``failure.safetensors`` with the batch if that is small;
            None: it is only raised.

    Raises:
        DivergedError: if one of them is NaN or infinite.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    spoiled = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    what = f"The loss became {loss}" if not math.isfinite(loss) else f"The norm of the gradient became {norm}"
    hint = "Lower training.learning_rate or set training.gradient_clip; the batch itself is finite."
    if spoiled:
        hint = f"The batch itself holds NaN or infinity in its {' and '.join(spoiled)}: look at the data."
    recorded = ""
    if checkpoint is not None:
        # what it takes to make the batch again: the seed, and which samples where they are counted
        again: dict[str, Any] = {"source": type(source).__name__, "step": step, "seed": getattr(source, "seed", None)}
        if isinstance(source, Epochs):
            again["samples"] = source.index(step).tolist()
        record = {
            "step": step,
            "loss": loss if math.isfinite(loss) else str(loss),
            "gradient_norm": norm if math.isfinite(norm) else str(norm),
            "learning_rate": learning_rate,
            "not_finite_in_batch": spoiled,
            "batch": again,
        }
        file = checkpoint.folder.parent / "failure.json"
        if bytes_of(tensors.values()) <= _LARGEST_BATCH:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            write_atomically(file.with_suffix(".safetensors"), save(tensors))
        write_json(file, record)
        last = next(iter(checkpoint.files()), None)
        recorded = f" The batch is told in '{file}'; "
        recorded += "no state was saved yet." if last is None else f"the state of step {last} is kept."
    raise DivergedError(f"{what} at step {step} with learning rate {learning_rate:.3g}. {hint}{recorded}")
