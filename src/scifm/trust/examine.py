"""Put checks to an operator, and record what they find in the folder of its run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny

from scifm.config import named_settings
from scifm.data.equations import told_of
from scifm.data.origins import Origin
from scifm.data.sample_recipe import SampleRecipe
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding, record_findings
from scifm.findings.provenance import Checked
from scifm.models.folder import ModelPlace, find_model
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.plugins import Catalog, fault_of_settings
from scifm.runs import Run
from scifm.trust import CHECKS
from scifm.trust.check import Check

__all__ = ["CheckRecipe", "check_operator"]

_FROM_A_STORE = 128  # samples, read once
_CATALOG: Catalog[Check] = Catalog("scifm.checks", "check", CHECKS, fault_of_settings(Check))


_NamedCheck = Annotated[SerializeAsAny[Check], BeforeValidator(lambda v: named_settings(v, Check, _CATALOG.find))]


def _unasked() -> tuple[str, ...]:
    """Return the checks that are put where none is named."""
    return tuple(name for name, check in CHECKS.items() if not check.on_request)


class CheckRecipe(SampleRecipe):
    """What an operator is questioned about.

    Args:
        num_samples: samples drawn of a system; of one that evolves trajectories, 32 where nothing is said.
        checks: names of checks, or tables of a name and settings; absent: all of them but those on request alone.
        budget: seconds that all of them together may take; those that are left then are not asked, and say so.
    """

    num_samples: int = Field(128, ge=1)
    checks: tuple[_NamedCheck, ...] = Field(
        default_factory=lambda: tuple(CHECKS[name]() for name in _unasked()), min_length=1
    )
    budget: float = Field(180.0, gt=0)

    def drawn_of(self, origin: Origin) -> int:
        """Return how many samples are drawn of a system: of what evolves fewer, since each is a trajectory."""
        few = origin.signature.evolves and "num_samples" not in self.model_fields_set
        return 32 if few else self.num_samples


def check_operator(
    operator: Operator | Run | str | Path,
    samples: Samples,
    checks: Iterable[Check | str] | None = None,
    *,
    origin: Origin | None = None,
    budget: float | None = None,
    seed: int = 0,
    record: bool = True,
) -> list[Finding]:
    """Put checks to an operator; those of a run of one's own are recorded in its folder, as ``findings.json``.

    Args:
        operator: an operator, which stays as it was, or where one lies: a run, its folder, that of a model,
            ``hf:name/model``.
        samples: a batch with targets, or a split of a store, of which 128 samples from all over are read.
        checks: which, by name or with settings of your own; when left out all of ``CHECKS`` but those on request alone,
            and none of a plug-in.
        origin: where the samples come from, for checks that draw others like them, beyond their ranges or on other
            grids; None: such checks do not apply.
        budget: seconds that all of them together may take; None: as long as they do.
        seed: of what checks draw; each check has a stream of its own.
        record: whether to write at all. Nothing is written for a model alone, or into anybody else's folder.

    Returns:
        One finding for each check, in their order.

    Raises:
        ConfigError: if there is no check of a name.
        SignatureError: if the samples do not fit the operator.
        RunError: if there is no readable operator, or the findings cannot be written.
    """
    questions = [
        _CATALOG.find(check)() if isinstance(check, str) else check
        for check in (_unasked() if checks is None else checks)
    ]
    model = None
    if not isinstance(operator, Operator):
        model = find_model(operator)
        operator = load_operator(model.folder)
    batch = samples.in_memory(_FROM_A_STORE)
    operator = told_of(operator, {**samples.describe(), **batch.describe()})
    began, findings = time.monotonic(), []
    for check in questions:
        left = None if budget is None else budget - (time.monotonic() - began)
        generator = generator_for(seed, "trust", check.name)
        findings.append(_asked(check, operator, batch, left, generator=generator, origin=origin, place=model))
    if record and model is not None and model.run is not None and model.run.is_own:
        record_findings(model.run.path / "findings.json", findings)
        today = time.strftime("%Y-%m-%d")
        told = (Checked(found.name, found.light, found.said, found.measured, today) for found in findings)
        operator.remember(model.folder, operator.provenance.checked(told))
    return findings


def _asked(
    check: Check,
    operator: Operator,
    batch: Batch,
    left: float | None,
    *,
    generator: torch.Generator,
    origin: Origin | None,
    place: ModelPlace | None,
) -> Finding:
    """Return what a check finds, with what it took; where no seconds are left it is not asked."""
    if left is not None and left <= 0:
        return Finding(name=check.name, said="Not asked: the budget was spent before. Give more (--budget).")
    start = time.monotonic()
    found = check(operator, batch, generator=generator, origin=origin, seconds=left, place=place)
    return found.model_copy(update={"seconds": round(time.monotonic() - start, 3)})
