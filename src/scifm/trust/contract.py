"""What every check promises, as tests that need nothing but the check and operators to tell apart.

In a test file of your own package::

    from scifm.trust.contract import CheckContract

    class TestMassBalance(CheckContract):
        check = MassBalance()

        def samples(self): ...  # a Batch with targets
        def good(self): ...     # an operator that is known to pass
        def bad(self): ...      # operators that are known to fail, a list

and pytest runs all of them. Each promise is a method whose first line says what is promised; it raises AssertionError
with a sentence that says what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from scifm.data.origins import Origin
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding
from scifm.models.operator import Operator
from scifm.trust.check import Check

__all__ = ["CheckContract"]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


class CheckContract:
    """All promises of a check; a subclass says which, and gives samples and operators."""

    check: ClassVar[Check]

    def samples(self) -> Batch:
        """Return samples with targets that the operators can be asked."""
        raise NotImplementedError(f"{type(self).__name__} gives no samples.")

    def good(self) -> Operator:
        """Return an operator that is known to be good by this check."""
        raise NotImplementedError(f"{type(self).__name__} gives no good operator.")

    def bad(self) -> Sequence[Operator]:
        """Return operators that are known to be bad by this check."""
        raise NotImplementedError(f"{type(self).__name__} gives no bad operators.")

    def origin(self) -> Origin | None:
        """Return where the samples come from, for a check that draws others; None: nobody says."""
        return None

    def ask(self, operator: Operator, seed: int = 0) -> Finding:
        """Return what the check finds."""
        generator = generator_for(seed, "contract")
        return self.check(operator, self.samples(), generator=generator, origin=self.origin())

    def test_it_passes_what_is_good(self) -> None:
        """A known-good operator is good news, with a number on the right side of a threshold told in words."""
        finding = self.ask(self.good())
        _require(finding.good is True, f"a good operator is not told to be good: {finding.said} {finding.evidence}")
        _require(finding.statistic is not None and finding.threshold is not None, "there is no statistic or threshold")
        _require(bool(finding.said and finding.evidence), "a finding says something and its evidence")
        _require(finding.name == self.check.name, f"the finding is called '{finding.name}', not '{self.check.name}'")

    def test_it_fails_what_is_bad(self) -> None:
        """A known-bad operator is bad news."""
        for operator in self.bad():
            finding = self.ask(operator)
            _require(finding.good is False, f"a bad operator is not told to be bad: {finding.said} {finding.evidence}")
            _require(bool(finding.advice), "what is bad comes with advice")

    def test_the_same_seed_gives_the_same_finding(self) -> None:
        """Findings hang on the operator, the samples and the generator, and on nothing else."""
        first, again = (self.ask(self.good()) for _ in range(2))
        _require(first == again, f"two answers to one question: {first} and {again}")

    def test_it_leaves_everything_as_it_was(self) -> None:
        """Weights, modes and gradients of the operator, and torch's global generator, stay as they were."""
        operator = self.good().train()
        part = next(iter(reversed(list(operator.modules()))))
        part.eval()  # a part somebody froze
        weights = {name: value.clone() for name, value in operator.state_dict().items()}
        modes = [module.training for module in operator.modules()]
        state = torch.get_rng_state()
        self.ask(operator)
        after = operator.state_dict()
        moved = [name for name, value in weights.items() if not torch.equal(value, after[name])]
        _require(not moved, f"weights were changed: {moved}")
        _require(modes == [module.training for module in operator.modules()], "the mode was changed")
        _require(all(p.grad is None for p in operator.parameters()), "gradients were left behind")
        _require(torch.equal(state, torch.get_rng_state()), "torch's global generator was drawn from")

    def test_an_operator_of_nans_is_no_good_news(self) -> None:
        """An operator whose weights are NaN is bad news, and says why."""
        operator = self.good()
        with torch.no_grad():
            for weight in operator.parameters():
                weight.fill_(float("nan"))
        finding = self.ask(operator)
        _require(finding.good is False, f"an operator of NaNs is not told to be bad: {finding.said}")

    def test_its_settings_can_be_written_down(self) -> None:
        """Settings make the check again, and say what it is."""
        _require(
            type(self.check).model_validate(self.check.to_dict()) == self.check, "its settings do not make it again"
        )
        _require(bool(self.check.name and self.check.question.endswith("?")), "a check has a name and asks a question")
