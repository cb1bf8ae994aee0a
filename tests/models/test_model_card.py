from __future__ import annotations

from typing import Any

import pytest
import yaml

import tiny
from scifm.models.card import ModelCard
from scifm.models.registry import save_operator


def header(text: str) -> dict[str, Any]:
    """What hubs read."""
    return yaml.safe_load(text.split("---\n", 2)[1])


def test_the_card_says_what_the_model_knows(tmp_path):
    operator = tiny.operator()
    card = {"title": "Poisson, small", "description": "Trained on little.\n", "license": "mit", "tags": ["poisson"]}
    save_operator(operator, tmp_path, card=card)
    text = (tmp_path / "README.md").read_text()
    assert header(text) == {
        "library_name": "scifm",
        "license": "mit",
        "tags": ["scifm", "neural-operator", "fno", "poisson"],
        "inputs": list(operator.signature.inputs),
        "coefficients": list(operator.signature.coefficients),
        "outputs": list(operator.signature.outputs),
        "num_spatial_dims": 2,
        "num_params": sum(t.numel() for t in operator.state_dict().values()),
    }
    assert "# Poisson, small\n\nTrained on little.\n" in text
    assert "`k11`" in text or f"`{operator.signature.coefficients[0]}`" in text


def test_nobody_claims_a_license_that_was_not_given(tmp_path):
    save_operator(tiny.operator(), tmp_path)
    assert header((tmp_path / "README.md").read_text())["license"] == "unknown"


@pytest.mark.parametrize("name", ["a: b", "---", "ü", "'", "no"])
def test_names_with_marks_survive_the_header(name):
    from scifm.fields.batch import Signature
    from scifm.models.fno import FNO, FNOConfig

    operator = FNO(Signature((name,), (), ("u",)), FNOConfig(**tiny.NETWORK))
    text = ModelCard().text(operator.kind, operator.signature, operator.num_params)
    (document,) = list(yaml.safe_load_all(text[: text.index("\n---\n\n#")]))
    assert document["inputs"] == [name]
