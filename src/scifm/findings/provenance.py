"""`Provenance`: where an operator comes from and how well it was found to do, in plain values beside its weights.

It is no part of the operator: two with the same weights and another past answer alike, and have the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scifm.config import Plain
from scifm.errors import ConfigError, RunError, cause_of
from scifm.runs import write_json

__all__ = ["PROVENANCE", "Checked", "Provenance", "Scored"]

PROVENANCE = "provenance.json"
"""The file of a model's folder that holds it; models of before have none."""

_LARGEST = 16 * 2**20


@dataclass(frozen=True)
class Scored:
    """Errors on one choice of samples.

    Args:
        samples: which, in words.
        num_samples: how many.
        errors: mean over samples, frames and channels, by the name of the metric.
        recorded: when.
    """

    samples: str
    num_samples: int
    errors: dict[str, float]
    recorded: str = ""


@dataclass(frozen=True)
class Checked:
    """What one check found.

    Args:
        name: of the check.
        light: ``green``, ``amber``, ``red``; ``none`` where it did not apply.
        said: the answer, a sentence.
        measured: the number it rests on and what that was compared with, in words; empty where there is none.
        recorded: when.
    """

    name: str
    light: str
    said: str
    measured: str = ""
    recorded: str = ""


@dataclass(frozen=True)
class Provenance(Plain):
    """Where an operator comes from.

    Args:
        made: ``pretrain``, ``finetune`` or ``from_scratch``; empty: nobody said.
        recipe: name of the recipe, or of the run.
        num_steps: steps of the last training.
        num_samples: samples of the last training, where they were counted.
        samples: what it was trained on last, in words.
        origin: the same as a record, see `scifm.data.origins.Origin.describe`, without places on a disk.
        equations: of the systems among it, by title.
        parent: name of what it was fine-tuned from.
        parent_digest: SHA-256 of that model.
        version: of SciFM that trained it.
        scores: what it was scored on, and how well it did.
        checks: what it was asked, and what was found.
    """

    made: str = ""
    recipe: str = ""
    num_steps: int | None = None
    num_samples: int | None = None
    samples: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    equations: dict[str, str] = field(default_factory=dict)
    parent: str = ""
    parent_digest: str = ""
    version: str = ""
    scores: tuple[Scored, ...] = ()
    checks: tuple[Checked, ...] = ()

    @classmethod
    def read(cls, folder: str | Path) -> Provenance:
        """Return what the folder of a model says; of one of before, nothing.

        Raises:
            RunError: if the file is damaged.
        """
        file = Path(folder) / PROVENANCE
        try:
            if file.stat().st_size > _LARGEST:
                raise ConfigError(f"it is larger than {_LARGEST} bytes")
            return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, RecursionError, ConfigError) as error:
            why = cause_of(error) or f"it is damaged ({' '.join(str(error).split())[:300]})"
            raise RunError(f"'{file}' cannot be read: {why}. Remove it to use the model without its past.") from error

    def write(self, folder: str | Path) -> None:
        """Write it into the folder of a model.

        Raises:
            RunError: if the folder cannot be written.
        """
        write_json(Path(folder) / PROVENANCE, self.to_dict())

    def scored(self, score: Scored) -> Provenance:
        """Return it with one more score, in place of an earlier one on the same samples."""
        return replace(self, scores=(*(own for own in self.scores if own.samples != score.samples), score))

    def checked(self, checks: Iterable[Checked]) -> Provenance:
        """Return it with what checks found, in place of what those of the same name found before."""
        found = {check.name: check for check in (*self.checks, *checks)}
        return replace(self, checks=tuple(found.values()))

    def told(self) -> list[tuple[str, str]]:
        """Return in words what is known, by name; scores and checks apart."""
        made = {"pretrain": "pre-trained", "finetune": "fine-tuned", "from_scratch": "trained from scratch"}
        how = [made.get(self.made, self.made), "" if self.num_steps is None else f"{self.num_steps:,} steps"]
        counted = "" if self.num_samples is None else f"{self.num_samples:,}: "
        rows = [("samples", counted + self.samples if self.samples else "")]
        rows += [(f"equation of {title}", f"`{text}`") for title, text in self.equations.items()]
        rows += [("data", f"content hash {self.origin['content']}")] if "content" in self.origin else []
        rows += [("how", ", ".join(filter(None, how))), ("recipe", self.recipe)]
        parent = f"{self.parent}, SHA-256 {self.parent_digest[:16]}…" if self.parent_digest else self.parent
        rows += [("made of", parent), ("by", f"SciFM {self.version}" if self.version else "")]
        return [(name, text) for name, text in rows if text]
