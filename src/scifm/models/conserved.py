"""`Conserved`: operators whose answers hold what an equation says they hold, frame by frame, however they are marched.

Several operators answer one question; what they say on average is the answer, how they differ its spread. The answer is
then moved, where the spread is large, until integrals over space that are known are exact (`scifm.fields.conserving`).
That is Operator-ProbConserv of Hansen et al. (arXiv:2302.11002) and Mouli et al. (arXiv:2403.10642); moved alike
everywhere it is their HardC.

What is known is a function of the problem, asked once where a march starts, for all of its frames: of a system of the
house its `budgets`. Models know no equation, so it is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NoReturn, cast

import torch
from torch import Tensor, nn

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.bounded import Bound, Bounded, nearest
from scifm.fields.conserving import Covariance, Deviations, Diagonal, Known, conserve, integral_weights
from scifm.fields.spectral import require_periodic, without_divergence
from scifm.models.operator import Operator
from scifm.wording import plural

__all__ = ["Budgets", "Conserved", "Weighing"]

Budgets = Callable[[Batch], Mapping[str, Tensor]]
"""What the integral of an output over space is at the lead times of a batch: output name → ``(batch, time)``."""

Weighing = Literal["variance", "members", "alike"]

_LEAST = 1e-12  # of the mean variance: what a point without spread has where answers have bounds
_OWN = 1e-3  # of the mean variance: what each point has to itself beside what members share, where answers have bounds


class Conserved(Operator):
    """Operators that answer together, and hold what is known.

    It is asked as every operator is, and marches: a corrected frame is what the next one follows from. It is no model
    of its own, and is not saved.

    Args:
        operators: several, of one form; or one alone, which may be an ensemble (`scifm.models.ensemble`).
        budgets: what is known, such as ``system.budgets``. An output that it does not name is left as it is, unless
            answers are moved as `members` vary together.
        weigh: by what an answer is moved. ``variance``: of the members at each point, each by itself, as published;
            ``members``: by their whole covariance, so that an answer moves in the ways in which members differ;
            ``alike``: everywhere by the same, for which one operator is enough. Absent: variance; of one operator
            alike.
        variance: of an answer, for operators that say it otherwise: the batch and the mean ``(batch, 1, output,
            *space)`` → that shape. Only with ``weigh = "variance"``.
        bounds: of outputs, by name: one `scifm.fields.bounded.Bound` or several, such as ``AtLeast(0.0)`` or
            ``Monotone(rising=False)``. Answers are then moved to the nearest one that meets them too. Weighed by
            ``members``, each point has a thousandth of the mean variance to itself: a few members alone could not.
        solenoidal: outputs that are the components, along x, y, z, of a field without divergence, such as
            ``system.solenoidal``; of it the divergence is taken last, by the projection that moves all points alike
            (`scifm.fields.spectral.without_divergence`), which leaves integrals as they are. Only on periodic grids.

    What members hold by themselves (`hold` of their settings) they hold together too: values at walls, means and other
    rows are met beside what is known, so that one does not undo the other; of a mean that `budgets` name too, these
    count. Each point has a little to itself then. They are given no bounds.

    Attributes:
        members: the operators, which are left as they are.
        budgets, weigh, variance, bounds, solenoidal: as given.

    Raises:
        ConfigError: if there is no spread to weigh by, or a setting has no effect.
        SignatureError: if members are not of one form. Asked later: if what is known is of no output, is not
            ``(batch, time)``, or an answer has points where it means nothing.
        DataError: asked later: if an integral cannot be met, for there is no spread where it counts.
    """

    members: nn.ModuleList

    def __init__(
        self,
        operators: Operator | Iterable[Operator],
        budgets: Budgets,
        *,
        weigh: Weighing | None = None,
        variance: Callable[[Batch, Tensor], Tensor] | None = None,
        bounds: Mapping[str, Bound | Sequence[Bound]] | None = None,
        solenoidal: Iterable[str] = (),
    ) -> None:
        members = _of_one_form(operators)
        first = members[0]
        super().__init__(first.signature, first.config, normalization=first.normalization)
        self.members = nn.ModuleList(members)
        self.domain, self.provenance = first.domain, first.provenance
        self.budgets, self.variance = budgets, variance
        self.bounds = {
            name: (own,) if isinstance(own, Bound) else tuple(own) for name, own in (bounds or {}).items() if own
        }
        held = first.config.holds
        self.solenoidal = tuple(solenoidal) or (() if held is None else held.solenoidal)
        self.weigh: Weighing = weigh or ("alike" if self._num_answers == 1 and variance is None else "variance")
        self._require_settings()

    def _require_settings(self) -> None:
        if self.weigh not in ("variance", "members", "alike"):
            raise ConfigError(f"Answers are weighed by variance, members or alike; got '{self.weigh}'.")
        if self.variance is not None and self.weigh != "variance":
            raise ConfigError(f"A variance has no effect where answers are weighed '{self.weigh}': leave it out.")
        if self._num_answers == 1 and self.variance is None and self.weigh != "alike":
            raise ConfigError(
                f"One operator alone says no spread to weigh by: give two or more, a variance, or weigh = 'alike'; got "
                f"weigh = '{self.weigh}'."
            )
        unknown = [name for name in (*self.bounds, *self.solenoidal) if name not in self.signature.outputs]
        if unknown:
            raise SignatureError(
                f"{', '.join(unknown)} is no output of these operators; they have {', '.join(self.signature.outputs)}."
            )
        dims = self.signature.num_spatial_dims
        if self.solenoidal and len(self.solenoidal) != dims:
            raise SignatureError(
                f"A field without divergence has {plural(dims, 'component')} here, along {', '.join('xyz'[:dims])}; "
                f"got {', '.join(self.solenoidal)}."
            )
        held = self.config.holds
        rows = set() if held is None else {name for own in held.rows for name in own.outputs}
        if held is not None and self.bounds:
            raise ConfigError(
                f"{', '.join(self.bounds)}: answers of operators that hold something themselves (hold) are given no "
                "bounds: take one of the two out."
            )
        if rows & set(self.solenoidal):
            raise ConfigError(
                f"{', '.join(sorted(rows & set(self.solenoidal)))} are held to rows and without divergence by the "
                "operators themselves, and cannot be moved to what is known as well: hold one of the two."
            )
        both = set(self.bounds) & set(self.solenoidal)
        if both:
            raise ConfigError(
                f"{', '.join(sorted(both))} cannot both have bounds and be without divergence: give one of them."
            )

    # --- as every operator --------------------------------------------------------------------------------------------

    def align(self, batch: Batch) -> Batch:
        return self._first.align(batch)

    def outside(self, batch: Batch) -> list[str]:
        return self._first.outside(batch)

    def march(self, batch: Batch, num_steps: int, *, through: int | None = None) -> Iterator[Tensor]:
        known = self._known(_reaching(batch, num_steps))
        steps = ({name: values[:, step : step + 1] for name, values in known.items()} for step in range(num_steps))
        return Operator.march(cast(Operator, _Step(self, steps)), batch, num_steps, through=through)

    def save_pretrained(self, path: Any, **about: Any) -> NoReturn:
        """Refuse: what is saved are its members."""
        raise ConfigError(
            "A conserved operator is its members and what is known of their answers, and no model of its own: save its "
            "members (.members), and bring them together again where they are loaded."
        )

    def said(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the answer and its variance, ``(batch, 1, output, *space)`` each, of one frame.

        The variance is what is left of the members' once integrals are known; weighed alike it is that of the members,
        which says nothing of what is known. Bounds and `solenoidal` it does not see.

        Raises:
            ConfigError: if one operator alone says no variance.
            SignatureError, DataError: as when it is asked.
        """
        if self._num_answers == 1 and self.variance is None:
            raise ConfigError("One operator alone says no variance: give several, or a variance.")
        batch = self.align(batch)
        if batch.num_frames != 1:
            raise SignatureError(f"The spread of one frame is said; {batch.num_frames} are asked for.")
        mean, deviations = self._together(batch)
        moved, found = self._moved(batch, mean, deviations, self._known(batch))
        if found is None or self.weigh == "alike":
            return moved, self._spread(batch, mean, deviations).variance.view(mean.shape).to(mean.dtype)
        return moved, found.variance.view(mean.shape)

    # --- how ----------------------------------------------------------------------------------------------------------

    @property
    def _first(self) -> Operator:
        return cast(Operator, self.members[0])

    @property
    def _num_answers(self) -> int:
        return sum(cast(Operator, member).num_members for member in self.members)

    def held(self, answer: Tensor, batch: Batch) -> Tensor:
        """Return the answer as it is: what members hold is met where they are moved to what is known."""
        return answer

    def _next_frame(self, batch: Batch) -> Tensor:
        return self._following(batch, self._known(batch))

    def _following(self, batch: Batch, known: Mapping[str, Tensor]) -> Tensor:
        """Return the next frame, moved to what is known of it, ``(batch, 1)`` each."""
        return self._moved(batch, *self._together(batch), known)[0]

    def _known(self, batch: Batch) -> dict[str, Tensor]:
        """Return what is known at the lead times of a batch, or say why it cannot be used."""
        known = dict(self.budgets(batch.with_targets(None)))
        shape = batch.num_samples, batch.num_frames
        for name, values in known.items():
            if name not in self.signature.outputs:
                raise SignatureError(
                    f"What '{name}' holds is known, and it is no output; there are {', '.join(self.signature.outputs)}."
                )
            if tuple(values.shape) != shape:
                raise SignatureError(
                    f"What '{name}' holds is known at every frame, (batch, time) = {shape}; got {tuple(values.shape)}."
                )
        answered = self.domain.gaps.answered(batch)
        if known and (batch.gaps or (answered is not None and not bool(answered.all()))):
            raise SignatureError(
                "What a field with missing points holds is not known: fill them first, or leave it out."
            )
        return known

    def _together(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what members say on average and how each differs, ``(batch, [member,] 1, output, *space)``."""
        asked = [cast(Operator, member).each(batch) for member in self.members]  # of an ensemble several
        answers = torch.stack([one.require_targets() for each in asked for one in each], dim=1)
        mean = answers.mean(1)
        return mean, answers - mean.unsqueeze(1)

    def _spread(self, batch: Batch, mean: Tensor, deviations: Tensor) -> Covariance:
        if self.variance is not None:
            return Diagonal(self.variance(batch, mean).expand_as(mean).flatten(1))
        flat = Deviations(deviations.flatten(2))
        return flat if self.weigh == "members" else Diagonal(flat.variance)

    def _wide(self, spread: Covariance | None, mean: Tensor, still: Tensor | None = None) -> Covariance | None:
        """Return a spread that lets every point move a little, where more than integrals is met, but `still` ones."""
        if spread is None:
            return None
        still = torch.zeros_like(mean[0].flatten(), dtype=torch.bool) if still is None else still
        variance = spread.variance.view(mean.shape).flatten(3)
        size = variance.mean(-1, keepdim=True)
        own, least = ((part * size).expand_as(variance).flatten(1) for part in (_OWN, _LEAST))
        if isinstance(spread, Deviations):
            return Deviations(torch.where(still, 0.0, spread.values), torch.where(still, 0.0, own))
        return Diagonal(torch.where(still, 0.0, variance.flatten(1).maximum(least)))

    def _moved(
        self, batch: Batch, mean: Tensor, deviations: Tensor, known: Mapping[str, Tensor]
    ) -> tuple[Tensor, Known | None]:
        if not known and not self.bounds:
            return self._without_divergence(batch, mean), None
        names = list(known)
        row = integral_weights(batch.grid).to(mean.device)
        rows = row.new_zeros(len(names), len(self.signature.outputs), len(row))
        for place, name in enumerate(names):
            rows[place, self.signature.outputs.index(name)] = row
        spread = None if self.weigh == "alike" else self._spread(batch, mean, deviations)
        found, moved, rows = None, mean, rows.flatten(1)
        values = (
            torch.cat([known[name].to(mean.device) for name in names], dim=1) if known else row.new_zeros(len(mean), 0)
        )
        if (held := self.config.holds) is not None:
            holding = self._holding(held, batch.grid, mean.device)
            own, asked, still = holding.beside(holding.state(batch), len(self.signature.outputs), told=names)
            rows, values = torch.cat([rows, own]), torch.cat([values, asked], dim=1)
            spread = self._wide(Diagonal(torch.ones_like(mean.flatten(1))) if spread is None else spread, mean, still)
        if known:
            found = conserve(mean.flatten(1), spread, rows, values)
            moved = found.mean.view(mean.shape)
        if self.bounds:
            space = batch.grid.num_points
            fields = [
                Bounded(space, own, self.signature.outputs.index(name) * len(row)) for name, own in self.bounds.items()
            ]
            moved = nearest(mean.flatten(1), self._wide(spread, mean), rows, values, fields).view(mean.shape)
        return self._without_divergence(batch, moved), found

    def _without_divergence(self, batch: Batch, answer: Tensor) -> Tensor:
        if not self.solenoidal:
            return answer
        require_periodic(batch.grid)
        places = [self.signature.outputs.index(name) for name in self.solenoidal][::-1]  # along z, y, x
        answer = answer.clone()
        parts = without_divergence([answer[:, :, place] for place in places], batch.grid)
        for place, part in zip(places, parts, strict=True):
            answer[:, :, place] = part
        return answer


class _Step:
    """As much of an operator as a march asks of one: it knows what each of its frames holds."""

    def __init__(self, operator: Conserved, known: Iterator[Mapping[str, Tensor]]) -> None:
        self.signature, self.domain = operator.signature, operator.domain
        self._operator, self._steps = operator, known

    def next_frame(self, batch: Batch) -> Tensor:
        return self._operator._following(batch, next(self._steps))


def _of_one_form(operators: Operator | Iterable[Operator]) -> list[Operator]:
    members = [operators] if isinstance(operators, Operator) else list(operators)
    if not members:
        raise ConfigError("Answers of no operator cannot conserve anything: give one or more.")
    first = members[0]
    for member in members[1:]:
        same = member.signature == first.signature and member.pace == first.pace
        if not same or member.sees_lead_time != first.sees_lead_time:
            raise SignatureError(
                "Operators that answer together have the same fields, history and lead time; the first has "
                f"{first.signature}, another one {member.signature}, or another history or lead time."
            )
        if member.config.holds != first.config.holds:
            raise ConfigError(
                "Operators that answer together hold the same (hold of their settings); the first holds "
                f"{first.config.holds}, another one {member.config.holds}."
            )
    return members


def _reaching(batch: Batch, num_steps: int) -> Batch:
    """Return the question with the lead times of so many frames; later steps are as long as the last one known."""
    batch, times, steps = batch.with_targets(None), batch.lead_time, batch.lead_steps
    if times is None or steps is None:
        return batch
    ahead = torch.arange(1, num_steps - times.shape[1] + 1, device=times.device)
    return replace(batch, lead_time=torch.cat([times, times[:, -1:] + steps[:, -1:] * ahead], dim=1)[:, :num_steps])
