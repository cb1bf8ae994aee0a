"""Can made records be told from others? The discriminative score of a small network that tries to.

A GRU of one layer reads spectrograms of both, in ln amplitudes, and says which is which. It is trained on half of the
records and asked about the other half: |accuracy − ½|, from 0, where it can only guess, to ½, where it never errs.

References:
    Yoon, Jarrett and van der Schaar, NeurIPS (2019), the score; Ren et al., arXiv:2407.15089, for ground motion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scifm.errors import DataError
from scifm.fields.seeds import DrawingFrom, generator_for

__all__ = ["discriminative_score"]

_LEARNING_RATE = 3e-3
_BATCH = 64


class _Reader(nn.Module):
    def __init__(self, num_frequencies: int, width: int) -> None:
        super().__init__()
        self.read, self.say = nn.GRU(num_frequencies, width, batch_first=True), nn.Linear(width, 1)

    def forward(self, levels: Tensor) -> Tensor:
        hidden, _ = self.read(levels)
        return self.say(hidden[:, -1])[:, 0]


def discriminative_score(real: Tensor, made: Tensor, *, num_steps: int = 400, width: int = 16, seed: int = 0) -> float:
    """Return |accuracy − ½| of a network that tells records from made ones.

    Args:
        real, made: ln amplitudes, ``(record, frame, frequency)``, as many of each.
        num_steps: of its training.
        width: of its GRU.
        seed: of its weights, of which records it is trained on, and of their order.

    Raises:
        DataError: if there are not as many of each, or too few to be parted.
    """
    if real.shape != made.shape or len(real) < 8:
        raise DataError(
            f"Records are told from as many made ones, 8 of each at least; got {tuple(real.shape)} and "
            f"{tuple(made.shape)}."
        )
    half = len(real) // 2
    # the same places of both: records of the same conditions are both known, or both asked about
    order = torch.randperm(len(real), generator=generator_for(seed, "halves"))
    known, asked = order[:half], order[half:]
    mean, scale = real[known].mean(dim=(0, 1)), real[known].std(dim=(0, 1)).clamp(min=1e-6)
    pairs = [((torch.cat([real[rows], made[rows]]) - mean) / scale).float() for rows in (known, asked)]
    labels = [torch.cat([torch.ones(len(rows)), torch.zeros(len(rows))]) for rows in (known, asked)]
    with DrawingFrom(generator_for(seed, "discriminator")):
        reader = _Reader(real.shape[-1], width)
    optimizer = torch.optim.Adam(reader.parameters(), lr=_LEARNING_RATE)
    for step in range(num_steps):
        drawn = torch.randint(len(pairs[0]), (_BATCH,), generator=generator_for(seed, "order", step))
        loss = functional.binary_cross_entropy_with_logits(reader(pairs[0][drawn]), labels[0][drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = (reader(pairs[1]) > 0) == (labels[1] > 0.5)
    return abs(float(right.float().mean()) - 0.5)
