"""Docs, *Ask a model*: its Python runs as it stands, and the warning that it shows is the one that is given."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from scifm.errors import OutsideWarning

PAGE = (Path(__file__).parents[1] / "docs" / "guides" / "ask-a-model.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict:
    """Return what its Python leaves, run without any warning."""
    left: dict = {}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutsideWarning)
        exec(compile(code, "ask-a-model.md", "exec"), left)
    return left


def test_answers_have_the_shapes_it_says(names):
    assert names["answer"]["solution"].shape == (100, 80)
    assert names["ahead"].shape == (20, 128)


def test_the_warning_is_the_one_it_shows(names):
    (asked,) = re.findall(r"here by\n`(operator\.predict\(.*?\))`", PAGE)
    (shown,) = re.findall(r"^```\nOutsideWarning: (.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    with pytest.warns(OutsideWarning, match=re.escape(" ".join(shown.split()))):
        eval(asked, names)


def test_what_is_new_is_told_by_what_the_network_is_given(names):
    operator, velocity = names["operator"], names["velocity"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutsideWarning)
        operator.predict({"velocity": velocity, "viscosity": 0.5})
    with pytest.warns(OutsideWarning, match="beside the size of the fields"):
        operator.predict({"velocity": 100 * velocity, "viscosity": 0.03})
