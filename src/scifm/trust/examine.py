"""Put checks to an operator, and record what they find in the folder of its run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny

from scifm.config import named_settings
from scifm.data.sample_recipe import SampleRecipe
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding, record_findings
from scifm.models.folder import find_model
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


class CheckRecipe(SampleRecipe):
    """What an operator is questioned about.

    Args:
        num_samples: samples drawn of a system.
        checks: names of checks, or tables of a name and settings; absent: all of them.
    """

    num_samples: int = Field(128, ge=1)
    checks: tuple[_NamedCheck, ...] = Field(
        default_factory=lambda: tuple(check() for check in CHECKS.values()), min_length=1
    )


def check_operator(
    operator: Operator | Run | str | Path,
    samples: Samples,
    checks: Iterable[Check | str] | None = None,
    *,
    seed: int = 0,
    record: bool = True,
) -> list[Finding]:
    """Put checks to an operator; those of a run of one's own are recorded in its folder, as ``findings.json``.

    Args:
        operator: an operator, which stays as it was, or where one lies: a run, its folder, that of a model,
            ``hf:name/model``.
        samples: a batch with targets, or a split of a store, of which 128 samples from all over are read.
        checks: which, by name or with settings of your own; all of ``CHECKS`` when left out, so none of a plug-in.
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
        _CATALOG.find(check)() if isinstance(check, str) else check for check in (CHECKS if checks is None else checks)
    ]
    run = None
    if not isinstance(operator, Operator):
        model = find_model(operator)
        run, operator = model.run, load_operator(model.folder)
    batch = samples.in_memory(_FROM_A_STORE)
    findings = [check(operator, batch, generator=generator_for(seed, "trust", check.name)) for check in questions]
    if record and run is not None and run.is_own:
        record_findings(run.path / "findings.json", findings)
    return findings
