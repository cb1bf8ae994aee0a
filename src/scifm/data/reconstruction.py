"""Origins of whole input fields: the same systems and stores, asked for what they are given instead of for solutions.

`reconstructing` makes one of any origin. It is of the same kind, so whoever trains, scores or records asks nothing new:
its samples are steady, every frame of what evolves is one, their targets are the input fields under names of their own
(`scifm.fields.hiding`). Samples that score have points hidden, the same ones every time; those to train on are whole:
there the objective hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from scifm.config import config_hash
from scifm.data.mixtures import Member, MixtureOrigin
from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.data.split import ChosenRows, StoreSplit
from scifm.data.store import Store
from scifm.data.well import Reader
from scifm.fields.batch import Batch, Signature
from scifm.fields.hiding import Hiding, scalings_of_whole, signature_of_whole, whole_name
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.samples import Samples
from scifm.fields.window import NEXT_FRAME
from scifm.systems.reconstruction import Reconstruction
from scifm.systems.system import System

__all__ = ["FrameRows", "WholeSplit", "reconstructing"]

_NOTHING = Hiding()


def reconstructing(origin: Origin, hiding: Hiding) -> Origin:
    """Return the origin of the whole input fields of another one.

    Args:
        origin: what a recipe names.
        hiding: what is hidden of samples that score.

    Raises:
        ConfigError: if it cannot be hidden on the grid.
    """
    hiding.require_grid(origin.grid)
    return _view(origin, hiding)


def _view(origin: Origin, hiding: Hiding) -> _WholeSystem | _WholeStore | _WholeMixture:
    if isinstance(origin, MixtureOrigin):
        members: list[Member] = []
        for member in origin.members:
            own = _view(member.origin, hiding)
            assert not isinstance(own, _WholeMixture)
            members.append(replace(member, origin=own))
        return _WholeMixture(tuple(members), hiding)
    if isinstance(origin, SystemOrigin):
        taken: dict[str, Any] = {"per_trajectory": origin.per_trajectory, "same_knobs": origin.same_knobs}
        return _WholeSystem(origin.config, origin.box, hiding=hiding, **taken)
    assert isinstance(origin, StoreOrigin), "an origin is one of three"
    return _WholeStore(origin.store, hiding=hiding)


class _Whole(Origin):
    """What all three say otherwise than the origins they are views of."""

    hiding: Hiding

    def validation(self, num_samples: int, seed: int) -> Batch:
        samples = super().validation(num_samples, seed)
        return self.hiding.of_each(samples, range(samples.num_samples))

    def test(self, num_samples: int, task: str) -> Batch:
        samples = super().test(num_samples, task)
        return self.hiding.of_each(samples, range(samples.num_samples))

    def unseen(self, num_samples: int, seed: int = 0, split: str = "test") -> tuple[Samples, dict[str, Any]]:
        samples, about = super().unseen(num_samples, seed, split)
        if isinstance(samples, WholeSplit):
            hidden: Samples = samples.hidden(self.hiding)
            return hidden, hidden.describe()
        assert isinstance(samples, Batch), "what is not read is drawn"
        return self.hiding.of_each(samples, range(samples.num_samples)), about

    def describe(self) -> dict[str, Any]:
        about = super().describe()  # type: ignore[safe-super]  # of the origin that stands behind in every class below
        return {**about, "hiding": self.hiding.to_dict()}


@dataclass(frozen=True)
class _WholeSystem(_Whole, SystemOrigin):
    hiding: Hiding = _NOTHING

    @cached_property
    def system(self) -> System:
        return Reconstruction(self.config.build(), self.per_trajectory)


@dataclass(frozen=True)
class _WholeStore(_Whole, StoreOrigin):
    hiding: Hiding = _NOTHING

    @property
    def signature(self) -> Signature:
        return signature_of_whole(self.store.signature)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        return scalings_of_whole(self.store.homogeneities, self.store.signature)

    def split(self, name: str) -> WholeSplit:
        return WholeSplit.of(self.store, name)


@dataclass(frozen=True)
class _WholeMixture(_Whole, MixtureOrigin):
    hiding: Hiding = _NOTHING

    def describe(self) -> dict[str, Any]:
        about = super().describe()
        about["members"] = [{k: v for k, v in own.items() if k != "hiding"} for own in about["members"]]
        return about


class FrameRows(Reader):
    """A reader of which every frame is a row by itself, its fields under two names: their own, and as a whole.

    Args:
        reader: of trajectories, or of steady problems.
        signature: of what it reads.
        num_frames: of a trajectory; None for steady problems.
    """

    def __init__(self, reader: Reader, signature: Signature, num_frames: int | None) -> None:
        self.reader, self._frames = reader, num_frames
        self._evolves = set(signature.outputs) if num_frames is not None else set()
        self._names = {whole_name(name): name for name in signature.inputs}
        self._latest: dict[str, tuple[slice, np.ndarray]] = {}  # what is asked for as a whole was read just before

    @property
    def num_trajectories(self) -> int:
        return self.reader.num_trajectories * (self._frames or 1)

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        name = self._names.get(name, name)
        if name not in self._latest or self._latest[name][0] != rows:
            self._latest[name] = rows, self._read(name, rows)
        return self._latest[name][1]

    def _read(self, name: str, rows: slice) -> np.ndarray:
        count = self._frames
        if count is None:
            return self.reader.read(name, rows, None)
        first, last = rows.start // count, max(rows.start, rows.stop - 1) // count
        parts = []
        for trajectory in range(first, last + 1):
            one, start = slice(trajectory, trajectory + 1), trajectory * count
            frames = slice(max(rows.start - start, 0), min(rows.stop - start, count))
            if name in self._evolves:
                parts.append(self.reader.read(name, one, frames)[0])
            else:
                parts.append(np.repeat(self.reader.read(name, one, None), frames.stop - frames.start, axis=0))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        self._latest.clear()
        self.reader.close()


@dataclass(frozen=True, repr=False)
class WholeSplit(StoreSplit):
    """A split of a store whose samples are whole input fields, frame by frame; windows of a trajectory are its frames.

    Args:
        num_frames: of a trajectory; 1 for steady problems.
        hiding: what is hidden of each sample, which hangs on its place in the split alone; None: nothing.
    """

    num_frames: int = 1
    hiding: Hiding | None = field(default=None)

    @classmethod
    def of(cls, store: Store, name: str) -> WholeSplit:
        """Return the split of that name of a store.

        Raises:
            ConfigError: if there is none.
        """
        split = store.split(name, NEXT_FRAME if store.card.times is None else None).kept()
        count = None if split.times is None else len(split.times)
        origin = {key: value for key, value in split.origin.items() if key not in NEXT_FRAME.to_dict()}
        given = [name for name in split.gaps if name in split.signature.inputs]
        return cls(
            FrameRows(split.reader, split.signature, count),
            signature_of_whole(split.signature),
            split.grid,
            split.system,
            split.dtype,
            origin=origin,
            gaps=(*given, *map(whole_name, given)),
            num_frames=count or 1,
        )

    @property
    def num_trajectories(self) -> int:
        return self.reader.num_trajectories // self.num_frames

    @property
    def windows_per_trajectory(self) -> int:
        return self.num_frames

    def hidden(self, hiding: Hiding) -> WholeSplit:
        """Return the same samples as they are scored."""
        return replace(self, hiding=hiding, origin={**self.origin, "hiding": hiding.to_dict()})

    def chosen(self, index: Sequence[int] | Tensor) -> WholeSplit:
        rows = self._within(np.asarray(index), self.num_trajectories, "Trajectories")
        frames = (rows[:, None] * self.num_frames + np.arange(self.num_frames)).flatten()
        origin = {**self.origin, "chosen": config_hash({"rows": rows.tolist(), "of": self.origin.get("chosen", "")})}
        return replace(self, reader=ChosenRows(self.reader, frames), origin=origin)

    def batch(self, index: slice | Sequence[int] | Tensor) -> Batch:
        whole = super().batch(index)
        if self.hiding is None:
            return whole
        places = np.arange(self.num_samples)
        return self.hiding.of_each(whole, places[index if isinstance(index, slice) else np.asarray(index)].tolist())
