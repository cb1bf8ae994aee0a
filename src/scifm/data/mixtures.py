"""`MixtureOrigin`: several systems and stores to train on together; one of the three kinds of `scifm.data.origins`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.data.stream import BatchSource, Epochs, MixtureStream, Taking, weighed
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity, scalings_of_all
from scifm.fields.window import Window

__all__ = ["Member", "MixtureOrigin"]


@dataclass(frozen=True)
class Member:
    """One origin of a mixture, its share of the samples, and how much each of its samples counts in the loss."""

    origin: SystemOrigin | StoreOrigin
    weight: float = 1.0
    loss_weight: float = 1.0


@dataclass(frozen=True)
class MixtureOrigin(Origin):
    """Several systems and stores together, over the union of their names, on one grid."""

    members: tuple[Member, ...]
    kind = "mixture"
    drawn_as = "mixture"

    @property
    def window(self) -> Window:  # type: ignore[override]
        return self.members[0].origin.window

    @property
    def lead_times(self) -> tuple[float, float] | None:
        ends = [end for member in self.members for end in member.origin.lead_times or ()]
        return (min(ends), max(ends)) if ends else None

    def framed(self, window: Window) -> MixtureOrigin:
        return MixtureOrigin(tuple(replace(m, origin=replace(m.origin, window=window)) for m in self.members))

    @property
    def systems(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for member in self.members for name in member.origin.systems))

    @property
    def name(self) -> str:
        return "+".join(member.origin.name for member in self.members)

    @property
    def label(self) -> str:
        return " + ".join(member.origin.label for member in self.members)

    @property
    def signature(self) -> Signature:
        return reduce(Signature.union, (member.origin.signature for member in self.members))

    @property
    def grid(self) -> Grid:
        return self.members[0].origin.grid

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        """The scalings of all members, each for those it holds for; see `scifm.fields.homogeneity.scalings_of_all`."""
        return scalings_of_all([(member.origin.signature, member.origin.homogeneities) for member in self.members])

    def stream(self, batch_size: int, seed: int, *, num_samples: int | None = None, blocks: int = 1) -> BatchSource:
        if num_samples is None:
            return self.fresh(batch_size, seed, blocks)
        return Epochs(self.fresh(num_samples, seed).batch(0), batch_size=batch_size, seed=seed)

    def fresh(self, batch_size: int, seed: int, blocks: int = 1, *, solved: bool = True) -> MixtureStream:
        """Return new samples of systems and rounds over stores, with solutions or without."""
        origins = [member.origin for member in self.members]
        drawn = next((origin.taking for origin in origins if isinstance(origin, SystemOrigin)), Taking())
        return MixtureStream(
            [origin.system if isinstance(origin, SystemOrigin) else origin.split("train") for origin in origins],
            self.grid,
            weights=[member.weight for member in self.members],
            loss_weights=[member.loss_weight for member in self.members],
            batch_size=batch_size,
            seed=seed,
            blocks=blocks,
            taking=replace(drawn, window=self.window, solved=solved),
        )

    def draw(self, num_samples: int, *names: int | str, seed: int = 0, split: str = "train") -> Batch:
        signature, each = self.signature, -(-num_samples // len(self.members))
        return Batch.concatenate(
            weighed(member.origin.draw(each, *names, place, seed=seed, split=split), signature, member.loss_weight)
            for place, member in enumerate(self.members)
        )

    def describe(self) -> dict[str, Any]:
        members = [m.origin.describe() | {"weight": m.weight, "loss_weight": m.loss_weight} for m in self.members]
        return {"kind": self.kind, "members": members, "grid": self.grid.to_dict()}
