"""`Gaps`: what the missing points of training samples say about an answer: where it means something, and where not.

A network answers everywhere. Where no sample ever had a target it was never told what is right, as on land; and where a
target was missing whenever an input was, as inside of obstacles that are elsewhere in every sample, it was not either.
There an answer is missing too. Where inputs were missing and targets known, as under clouds that move on, it counts.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError
from scifm.fields.batch import Batch

__all__ = ["Gaps", "require_whole"]


def require_whole(gaps: tuple[str, ...], who: str, remedy: str) -> None:
    """Refuse samples with missing points for what cannot leave these out.

    Args:
        gaps: names of the fields that have some.
        who: cannot, and why: the beginning of a sentence.
        remedy: what to do instead.

    Raises:
        ConfigError: if there are some.
    """
    if gaps:
        raise ConfigError(f'{who}, and points of {", ".join(gaps)} are missing (gaps = "mask"). {remedy}')


@dataclass(frozen=True)
class Gaps(Plain):
    """Where points were missing in training samples.

    Args:
        fields: names of the fields of which points were missing.
        hidden_by: output → inputs: wherever one of these was missing in the last input frame, so was the target.
        never: output → the points where no sample had a target, see `points`; none where there is no such point.
        num_points: of the grid of `never`.
    """

    fields: tuple[str, ...] = ()
    hidden_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    never: dict[str, str] = field(default_factory=dict)
    num_points: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fields)

    @classmethod
    def of(cls, samples: Batch) -> Gaps:
        """Return what samples, or enough of them, say."""
        names, gaps = samples.signature, samples.gaps
        hidden: dict[str, tuple[str, ...]] = {}
        never: dict[str, str] = {}
        for name in (name for name in names.outputs if name in gaps):
            valid, there = samples.valid_target(name), samples.has((name,))
            if valid is None:
                continue
            valid = valid if there is None else valid[there[:, 0]]
            if not len(valid):
                continue
            by = tuple(other for other in names.inputs if other in gaps and _hides(samples, other, name))
            hidden |= {name: by} if by else {}
            blank = ~valid.flatten(0, 1).any(dim=0)
            never |= {name: _packed(blank)} if bool(blank.any()) else {}
        return cls(gaps, hidden, never, samples.grid.num_points if never else ())

    def answered(self, batch: Batch) -> Tensor | None:
        """Return where answers mean something, ``(batch, 1, output, *space)`` bool; None: everywhere.

        It is one and the same for all frames of a forecast, since what nobody knew at its start nobody knows later.
        """
        if not self:
            return None
        outputs = batch.signature.outputs
        space, parts, some = batch.grid.num_points, [], False
        for name in outputs:
            valid = torch.ones((batch.num_samples, *space), dtype=torch.bool, device=batch.inputs.device)
            for other in self.hidden_by.get(name, ()):
                known = batch.valid(other) if other in batch.signature.inputs else None
                if known is not None:
                    valid, some = valid & known[:, -1], True
            if name in self.never and self.num_points == space:
                valid, some = valid & ~self.points(name).to(valid.device), True
            parts.append(valid)
        return torch.stack(parts, dim=1).unsqueeze(1) if some else None

    def points(self, name: str) -> Tensor:
        """Return the points where no sample had a target of that name, ``(*space)`` bool.

        Raises:
            ConfigError: if what was written down is no mask of these points.
        """
        count = int(np.prod(self.num_points, dtype=np.int64))
        try:
            limit = zlib.decompressobj()
            packed = limit.decompress(base64.b64decode(self.never[name], validate=True), (count + 7) // 8 + 1)
            bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count).reshape(self.num_points)
        except (ValueError, zlib.error) as error:
            raise ConfigError(f"gaps.never.{name} is no mask of {self.num_points} points: {error}") from error
        return torch.from_numpy(bits.astype(bool))

    def renamed(self, call: Callable[[str], str]) -> Gaps:
        """Return the same with other names for fields."""
        hidden = {call(name): tuple(map(call, by)) for name, by in self.hidden_by.items()}
        never = {call(name): own for name, own in self.never.items()}
        return Gaps(tuple(map(call, self.fields)), hidden, never, self.num_points)


def _hides(samples: Batch, given: str, asked: str) -> bool:
    """Return whether a target is missing wherever an input is, in all samples that have both."""
    known, valid, there = samples.valid(given), samples.valid_target(asked), samples.has((given, asked))
    if known is None or valid is None:
        return False
    if there is not None:
        both = there.all(dim=1)
        known, valid = known[both], valid[both]
    missing = ~known[:, -1:]
    return bool(missing.any()) and not bool((missing & valid).any())


def _packed(points: Tensor) -> str:
    bits = np.packbits(points.cpu().numpy().ravel())
    return base64.b64encode(zlib.compress(bits.tobytes(), 9)).decode()
