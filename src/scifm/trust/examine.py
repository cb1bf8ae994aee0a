"""Put checks to an operator, and record what they find in the folder of its run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scifm.errors import ConfigError, suggest
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding, record_findings
from scifm.models.hub import find_model, load_operator
from scifm.models.operator import Operator
from scifm.runs import Run
from scifm.trust import CHECKS
from scifm.trust.check import Check

__all__ = ["check_named", "check_operator"]

_FROM_A_STORE = 128  # samples, read once


def check_named(name: str) -> Check:
    """Return the check of that name, with its own settings.

    Raises:
        ConfigError: if there is none; it names the nearest.
    """
    if name not in CHECKS:
        raise ConfigError(f"Check {suggest(name, CHECKS)}")
    return CHECKS[name]()


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
        checks: which, by name or with settings of your own; all of ``CHECKS`` when left out.
        seed: of what checks draw; each check has a stream of its own.
        record: whether to write at all. Nothing is written for a model alone, or into anybody else's folder.

    Returns:
        One finding for each check, in their order.

    Raises:
        ConfigError: if there is no check of a name.
        SignatureError: if the samples do not fit the operator.
        RunError: if there is no readable operator, or the findings cannot be written.
    """
    asked = [
        check_named(check) if isinstance(check, str) else check for check in (CHECKS if checks is None else checks)
    ]
    run = None
    if not isinstance(operator, Operator):
        model = find_model(operator)
        run, operator = model.run, load_operator(model.folder)
    batch = samples.in_memory(_FROM_A_STORE)
    findings = [check(operator, batch, generator=generator_for(seed, "trust", check.name)) for check in asked]
    if record and run is not None and run.is_own:
        record_findings(run.path / "findings.json", findings)
    return findings
