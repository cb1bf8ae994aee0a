"""Guard rails of training: numbers that are not finite, and losses that jump.

Both look at two numbers a step, the loss and the norm of the whole gradient, which are computed anyway or cost one pass
over the gradient. `benchmarks/guards.py` measures what that takes.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from scifm.data.stream import BatchSource, Epochs
from scifm.errors import RunError
from scifm.fields.batch import Batch
from scifm.runs import write_atomically, write_json
from scifm.training.checkpoint import Checkpoint, Position
from scifm.training.weights import bytes_of

__all__ = ["DivergedError", "note_loss", "require_finite"]

SPIKE_FACTOR = 4.0  # times the median of the losses before
SPIKE_WINDOW = 50  # steps the median is taken over
SPIKE_FEWEST = 20  # steps before anything is called a spike
_LARGEST_BATCH = 64 * 2**20  # bytes of a batch that is kept with a failure


class DivergedError(RunError):
    """The loss or a gradient became NaN or infinite."""


def note_loss(position: Position, loss: float) -> float | None:
    """Remember the loss of a step; return its size, as a multiple of the usual, if a spike begins with it.

    A loss is high when it is more than 4 times the median of the 50 before (at least 20). A spike is a row of high
    losses: it is told once. The rule looks at losses alone, and they are part of the saved state, so a resumed run
    tells the same spikes.
    """
    recent = position.recent_losses
    size = None
    was_high, position.spiking = position.spiking, False
    if len(recent) >= SPIKE_FEWEST:
        usual = statistics.median(recent)
        position.spiking = loss > SPIKE_FACTOR * usual
        if position.spiking and not was_high and usual > 0:
            size = loss / usual
    position.recent_losses = [*recent[1 - SPIKE_WINDOW :], loss]
    return size


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
        loss: of the step.
        norm: of its gradient.
        step: counted from 0, as `source` counts.
        learning_rate: of the step.
        batch: what the loss was taken on.
        source: where the batch came from.
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
