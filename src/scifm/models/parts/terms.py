"""A token a term: what moves the norms of a network that is told the equation of each sample.

A term is an operator, the fields it acts on, the one whose equation it stands in, and how strong it is in a sample: its
coefficient, as the normalization scales it, times its factor, times the time to the answer where that differs between
samples. Each of these has vectors of its own, whose sum goes through a small network; a sample's tokens are summed. So
one term is one token in every equation it stands in, whatever its coefficient is called there. A token of strength s,
in units of what is usual for its operator, counts by s/(1 + s): what grows weak fades out, and at 0 it is not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from scifm.errors import SignatureError
from scifm.fields.batch import Signature
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.term import Equations, Term, renamed_equations

__all__ = ["TermTokens"]

_SMALLEST = 6.0  # how many powers of e a strength may lie from the usual one before it counts as no farther
_TABLES = ("operators", "fields", "of", "usual")  # what has a row for each word


@dataclass(frozen=True)
class _Words:
    """The operators and fields that equations name, in the order of the alphabet: a row of a table is of a word."""

    operators: tuple[str, ...]
    fields: tuple[str, ...]

    @classmethod
    def of(cls, equations: Equations) -> _Words:
        terms = [term for own in equations.values() for term in own]
        fields = {name for term in terms for name in (*term.fields, term.of)}
        return cls(tuple(sorted({term.operator for term in terms})), tuple(sorted(fields)))

    def beyond(self, known: _Words) -> list[str]:
        """Return the words among them that others are not."""
        new = [word for word in self.operators if word not in known.operators]
        return new + [word for word in self.fields if word not in known.fields]

    def rows(self, table: str) -> tuple[str, ...]:
        return self.operators if table in ("operators", "usual") else self.fields


class TermTokens(nn.Module):
    """The sum of the tokens of each sample's terms.

    Args:
        equations: the terms of each system, by its name; their words make the vocabulary.
        signature: of the operator, whose coefficients the terms name.
        normalization: of the operator, by which the usual strength of each operator is known.
        hidden: numbers of a token inside.
        width: numbers of a sum.
        sees_lead_time: whether the time to the answer differs between samples.

    Raises:
        SignatureError: if a term names a coefficient that the operator does not know.
    """

    usual: Tensor

    def __init__(
        self,
        equations: Equations,
        signature: Signature,
        normalization: Normalization,
        *,
        hidden: int,
        width: int,
        sees_lead_time: bool = False,
    ) -> None:
        super().__init__()
        self.sees_lead_time = sees_lead_time
        self.equations, self.coefficients = dict(equations), signature.coefficients
        words = self._words = _Words.of(equations)
        self.operators = nn.Parameter(torch.empty(len(words.operators), hidden))
        self.fields = nn.Parameter(torch.empty(len(words.fields), hidden))
        self.of = nn.Parameter(torch.empty(len(words.fields), hidden))
        for table in (self.operators, self.fields, self.of):
            nn.init.uniform_(table, -1.0, 1.0)
        self.strength, self.out = nn.Linear(3, hidden), nn.Linear(hidden, width)
        self.register_buffer("usual", torch.tensor(self._usual(equations, normalization)))
        self._numbers: dict[torch.device, tuple[Tensor, ...]] = {}

    def know(
        self, equations: Equations, normalization: Normalization, generator: torch.Generator | None = None
    ) -> None:
        """Take these equations instead of those it has; what it knows of a word stays as it is.

        Args:
            equations: the terms of each system, by its name: all of them.
            normalization: of the operator.
            generator: of vectors for words it has not met; None: none may be among them.

        Raises:
            SignatureError: if there is a word it has not met, and no generator; or a coefficient nobody knows.
        """
        words = _Words.of(equations)
        usual = self._usual(equations, normalization)
        if generator is None and (new := words.beyond(self._words)):
            name = next(name for name, own in equations.items() if _Words.of({name: own}).beyond(self._words))
            raise SignatureError(
                f"The equation of '{name}' has '{new[0]}', of which the operator was never told; it knows the "
                f"operators {', '.join(self._words.operators)} of {', '.join(self._words.fields)}. Fine-tune it first."
            )
        fresh = {}
        for name in _TABLES:
            shape = (len(words.rows(name)), *getattr(self, name).shape[1:])
            drawn = torch.tensor(usual) if name == "usual" else torch.rand(shape, generator=generator) * 2 - 1
            fresh[name] = drawn.to(getattr(self, name))
        self._take(equations, self._placed(words, fresh))

    def call(self, names: Callable[[str], str]) -> None:
        """Give fields and coefficients other names; nothing else changes."""
        self.coefficients = tuple(map(names, self.coefficients))
        old, equations = self._words, renamed_equations(self.equations, names)
        self._words = _Words(old.operators, tuple(map(names, old.fields)))
        words = _Words.of(equations)
        self._take(equations, self._placed(words, {name: getattr(self, name).detach().clone() for name in _TABLES}))

    def _take(self, equations: Equations, tables: Mapping[str, Tensor]) -> None:
        self.equations, self._words = dict(equations), _Words.of(equations)
        self._numbers.clear()
        for name, table in tables.items():
            setattr(self, name, table if name == "usual" else nn.Parameter(table))

    def rows_in(self, other: TermTokens) -> dict[str, Tensor]:
        """Return its tables as another one holds them that knows other words; rows of those are the other's."""
        return self._placed(other._words, {name: getattr(other, name).detach().clone() for name in _TABLES})

    @torch.no_grad()
    def _placed(self, words: _Words, tables: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put what is known of each word into its row of tables of other words, in place."""
        for name, table in tables.items():
            mine = self._words.rows(name)
            for place, word in enumerate(words.rows(name)):
                if word in mine:
                    table[place] = getattr(self, name)[mine.index(word)]
        return tables

    def forward(self, encoded: Encoded) -> Float[Tensor, "batch number"]:
        """Return the sum of each sample's tokens.

        Raises:
            SignatureError: if samples do not say what they are of, or are of a system whose terms nobody told.
        """
        strengths = encoded.strengths
        assert strengths is not None, "a normalization tells them"
        which = torch.tensor(self._places(encoded.systems, len(strengths)), device=strengths.device)
        operator, acts, of, column, factor = (table[which] for table in self._table(strengths))
        strengths = torch.cat([strengths, torch.ones_like(strengths[:, :1])], dim=1)  # of terms without a coefficient
        strong = factor * strengths.gather(1, column)
        if self.sees_lead_time:
            assert encoded.lead_time is not None, "the operator has looked"
            strong = strong * encoded.lead_time[:, None]
        strong = strong / self.usual[operator]
        share = strong.abs() / (1 + strong.abs())
        size = strong.abs().clamp(math.exp(-_SMALLEST), math.exp(_SMALLEST)).log() / 2
        told = self.strength(torch.stack([strong.asinh(), strong.sign(), size], dim=-1))
        hidden = self.operators[operator] + acts @ self.fields + self.of[of] + told
        return (self.out(functional.gelu(hidden)) * share[..., None]).sum(1)

    def _places(self, systems: Sequence[str], num_samples: int) -> list[int]:
        known = list(self.equations)
        if not systems and len(known) == 1:
            return [0] * num_samples  # there is nothing else it could be
        if not systems:
            raise SignatureError(
                "The operator is told the equation of every sample, and this batch does not say which systems its "
                f"samples are of: {', '.join(known)}. Give it systems, a name for each sample; of arrays, system."
            )
        for name in dict.fromkeys(systems):
            if name not in self.equations:
                raise SignatureError(
                    f"The operator is told the equation of every sample, and it does not know the terms of '{name}', "
                    f"only those of {', '.join(known)}: tell it (scifm.models.equations.taught), or fine-tune it."
                )
        return [known.index(name) for name in systems]

    def _table(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return what terms are, a row for each system: ``(system, term)``, fields ``(system, term, field)``."""
        if like.device not in self._numbers:
            words, systems = self._words, list(self.equations.values())
            longest = max(map(len, systems), default=0)
            shape = (len(systems), longest)
            operator, of, column = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
            acts, factor = torch.zeros(*shape, len(words.fields)), torch.zeros(shape)  # no term has the factor 0
            for row, terms in enumerate(systems):
                for place, term in enumerate(terms):
                    operator[row, place] = words.operators.index(term.operator)
                    of[row, place] = words.fields.index(term.of)
                    column[row, place] = self._column(term)
                    factor[row, place] = term.factor
                    for name in term.fields:
                        acts[row, place, words.fields.index(name)] += 1
            self._numbers[like.device] = tuple(t.to(like.device) for t in (operator, acts, of, column, factor))
        operator, acts, of, column, factor = self._numbers[like.device]
        return operator, acts.to(like), of, column, factor.to(like)

    def _column(self, term: Term) -> int:
        if term.coefficient is None:
            return len(self.coefficients)
        if term.coefficient not in self.coefficients:
            raise SignatureError(
                f"The term {term.told} has a coefficient that the operator does not know; it knows "
                f"{', '.join(self.coefficients) or 'none'}. Fine-tune it on some samples: then it is given a channel."
            )
        return self.coefficients.index(term.coefficient)

    def _usual(self, equations: Equations, normalization: Normalization) -> list[float]:
        """Return the usual strength of each operator: the geometric mean over the terms that have it."""
        sizes = [*normalization.coefficient_sizes, 1.0]
        logarithms: dict[str, list[float]] = {}
        for term in (term for own in equations.values() for term in own):
            size = abs(term.factor) * sizes[self._column(term)]
            logarithms.setdefault(term.operator, []).append(math.log(size))
        return [math.exp(sum(own) / len(own)) for own in (logarithms[name] for name in sorted(logarithms))]
