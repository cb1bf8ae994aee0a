"""The README of a model on disk: a header that hubs read, and what a person wants to know first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from scifm.config import Config
from scifm.fields.batch import Signature

__all__ = ["ModelCard"]

_LOADING = """```python
import scifm

operator = scifm.load_operator("PATH")  # this folder
operator = scifm.load_operator("hf:NAME/MODEL")  # from the hub
answers = operator.predict(batch).require_targets()  # batch: a scifm.Batch with the names below
```"""


class ModelCard(Config):
    """What only its maker can say about a model.

    Args:
        title: the heading.
        description: what it was trained on and what it is good for, in Markdown.
        license: an identifier the hub knows, such as ``mit``; ``unknown`` while nobody says.
        tags: further words to be found by.
    """

    title: str = Field("A neural operator", min_length=1)
    description: str = ""
    license: str = Field("unknown", min_length=1)
    tags: tuple[str, ...] = ()

    def text(self, entries: Mapping[str, Any], num_params: int, *, needs_module: bool = False) -> str:
        """Return the README of an operator.

        Args:
            entries: what `Operator.describe` says of it.
            num_params: its weights.
            needs_module: whether loading it needs the network as an object.
        """
        signature = Signature.from_dict(entries["signature"])
        names = {"inputs": signature.inputs, "coefficients": signature.coefficients, "outputs": signature.outputs}
        header: dict[str, Any] = {
            "library_name": "scifm",
            "license": self.license,
            "tags": ["scifm", "neural-operator", entries["kind"], *self.tags],
            **{name: list(value) for name, value in names.items()},
            "num_spatial_dims": signature.num_spatial_dims,
            "num_params": num_params,
        }
        parts = [f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---", f"# {self.title}"]
        if self.description:
            parts.append(self.description.strip())
        told = [f"| {name} | {', '.join(f'`{n}`' for n in value) or '–'} |" for name, value in names.items()]
        time = "later in time than the input" if signature.evolves else "steady"
        told += [
            f"| dimensions | {signature.num_spatial_dims} |",
            f"| answer | {time} |",
            f"| kind | `{entries['kind']}` |",
            f"| weights | {num_params:,} |",
        ]
        table = "\n".join(["| | |", "|---|---|", *told])
        loading = _LOADING
        if needs_module:
            loading = (
                loading.replace('")  #', '", module=network)  #') + "\n\n`network` is a fresh one of the same class."
            )
        parts += [f"## What it knows\n\n{table}", f"## How to load it\n\n{loading}"]
        return "\n\n".join(parts) + "\n"

    @staticmethod
    def header(path: str | Path) -> dict[str, Any]:
        """Return the header of a README that `text` wrote."""
        _, header, _ = Path(path).read_text(encoding="utf-8").split("---\n", 2)
        return dict(yaml.safe_load(header))
