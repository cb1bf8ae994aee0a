"""`ModelCard`: the page of a model, for hubs and for persons: what it knows, where it comes from, how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import Field

from scifm.config import Config, build_config
from scifm.fields.batch import Signature
from scifm.fields.domain import Domain, Range
from scifm.findings.provenance import Checked, Provenance, Scored

__all__ = ["ModelCard"]

_SEEN = "The ranges that were seen. What an exact scaling of the equation covers is answered beyond them too."
_LOADING = """```python
import numpy as np
import scifm

operator = scifm.load_operator("PATH")  # this folder, or "hf:NAME/MODEL" on the hub
draw = np.random.default_rng(0).standard_normal
asked = {  # (*space) for one problem, (sample, *space) for several
ASKED
}
answers = operator.predict(asked)  # by name, as arrays; it takes a scifm.Batch too
```"""
_LIGHTS = "Green: passed. Red: failed. Amber: measured, without a verdict. What each asks: SciFM's page on trust."
_NO_TITLE = "A neural operator"


class ModelCard(Config):
    """What only its maker can say about a model.

    Args:
        title: the heading; the recipe's name where it is left out and known.
        description: what it was trained on and what it is good for, in Markdown.
        license: an identifier the hub knows, such as ``mit``; ``unknown`` while nobody says.
        tags: further words to be found by.
    """

    title: str = Field(_NO_TITLE, min_length=1)
    description: str = ""
    license: str = Field("unknown", min_length=1)
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, card: ModelCard | Mapping[str, Any] | None) -> ModelCard:
        """Return a card from a table of its settings, or a ready one.

        Raises:
            ConfigError: if there are settings it does not know.
        """
        return card if isinstance(card, ModelCard) else build_config(cls, card or {}, source="the model card")

    def text(
        self,
        kind: str,
        signature: Signature,
        num_params: int,
        *,
        domain: Domain | None = None,
        provenance: Provenance | None = None,
        needs_module: bool = False,
    ) -> str:
        """Return the README of an operator: a header that hubs read, and what a person wants to know first.

        Args:
            domain: what it was trained on.
            provenance: where it comes from.
            needs_module: whether loading it needs the network as an object.
        """
        domain, provenance = domain or Domain(), provenance or Provenance()
        names = {"inputs": signature.inputs, "coefficients": signature.coefficients, "outputs": signature.outputs}
        header: dict[str, Any] = {
            "library_name": "scifm",
            "license": self.license,
            "tags": ["scifm", "neural-operator", kind, *self.tags],
            **{name: list(value) for name, value in names.items()},
            "num_spatial_dims": signature.num_spatial_dims,
            "num_params": num_params,
        }
        title = provenance.recipe if self.title == _NO_TITLE and provenance.recipe else self.title
        parts = [f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---", f"# {title}"]
        if self.description:
            parts.append(self.description.strip())
        rows = [(name, ", ".join(f"`{n}`" for n in value) or "–") for name, value in names.items()]
        rows += [
            ("dimensions", str(signature.num_spatial_dims)),
            ("answer", "later in time than the input" if signature.evolves else "steady"),
            ("kind", f"`{kind}`"),
            ("weights", f"{num_params:,}"),
        ]
        parts.append(f"## What it knows\n\n{_table(rows)}")
        if ranges := domain.told():
            parts.append(f"## What it was trained on\n\n{_SEEN}\n\n{_table(ranges)}")
        if past := provenance.told():
            parts.append(f"## Where it comes from\n\n{_table(past)}")
        if provenance.scores:
            parts.append(f"## How well it does\n\nMeans over samples.\n\n{_scores(provenance.scores)}")
        if provenance.checks:
            parts.append(f"## Can it be trusted\n\n{_LIGHTS}\n\n{_checks(provenance.checks)}")
        loading = _LOADING.replace("ASKED", _asked(signature, domain))
        if needs_module:
            loading = (
                loading.replace('")  #', '", module=network)  #') + "\n\n`network` is a fresh one of the same class."
            )
        parts.append(f"## How to load it\n\n{loading}")
        return "\n\n".join(parts) + "\n"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = (text.replace("|", "\\|") for row in rows for text in row)
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in zip(cells, cells, strict=True))])


def _scores(scores: tuple[Scored, ...]) -> str:
    metrics = list(dict.fromkeys(name for own in scores for name in own.errors))
    head = f"| scored on | samples | {' | '.join(metrics)} |\n|---|---|{'---|' * len(metrics)}"
    rows = []
    for own in scores:
        numbers = (f"{own.errors[name]:.3g}" if name in own.errors else "" for name in metrics)
        rows.append(f"| {own.samples} | {own.num_samples:,} | {' | '.join(numbers)} |")
    return "\n".join([head, *rows])


def _checks(checks: tuple[Checked, ...]) -> str:
    rows = ["| asked | light | found |", "|---|---|---|"]
    for check in checks:
        light, found = "not asked" if check.light == "none" else check.light, f"{check.said} {check.measured}".strip()
        cells = (text.replace("|", "\\|") for text in (check.name.replace("_", " "), light, found))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _asked(signature: Signature, domain: Domain) -> str:
    """Return a question within the ranges that were seen, as far as these are known."""

    def middle(ends: Range | None) -> str:
        return "1.0" if ends is None else f"{(ends[0] + ends[1]) / 2:.3g}"

    names = domain.form_of(domain.forms[0], signature) if domain.forms else signature
    points = domain.grid.num_points if domain.grid is not None else (64,) * signature.num_spatial_dims
    asked = [f'    "{name}": {middle(domain.sizes.get(name))} * draw({points}),' for name in names.inputs]
    asked += [f'    "{name}": {middle(domain.coefficients.get(name))},' for name in names.coefficients]
    return "\n".join(asked)
