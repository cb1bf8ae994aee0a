"""The README's ten lines do what they say: they end in a page that tells the error and what it was scored on."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np

import tiny
from scifm.config import dump_toml
from scifm.wording import number_text

README = Path(__file__).parents[1] / "README.md"
SMALLER = {
    "num_samples=4096": "num_samples=16",
    "num_points=64": "num_points=16",
    'pretrain("poisson-small"': 'pretrain("tiny.toml"',
    "num_samples=64": 'num_samples=8, learning_rates=(1e-3,), training={"num_steps": 3}',
    "sample(512, scifm.Grid.square(64))": "sample(6, scifm.Grid.square(16))",
}


def ten_lines() -> str:
    """Return the code, each size in it brought down; a size that is not there any more is noticed."""
    (code,) = re.findall(r"## Ten lines of Python\n+```python\n(.*?)```", README.read_text(), re.DOTALL)
    for size, smaller in SMALLER.items():
        assert code.count(size) == 1, size
        code = code.replace(size, smaller)
    return code


def test_the_ten_lines_end_in_a_page_with_the_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = {key: value for key, value in tiny.RECIPE.items() if key != "system"}
    (tmp_path / "tiny.toml").write_text(dump_toml(tree))
    names: dict = {}
    exec(compile(ten_lines(), str(README), "exec"), names)
    page = html.unescape((names["tuned"].path / "report.html").read_text())
    error = names["scores"].mean("relative_l2")
    assert f"relative L2 error of {number_text(error, digits=2)} (solution), mean over 6 samples" in page
    assert "samples of poisson" in page
    assert "not recorded" not in page.partition('id="training"')[0]


def test_the_answer_without_training_is_as_near_as_it_says():
    (code,) = re.findall(r"## An answer, without training\n+```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(code, str(README), "exec"), names)
    exact = names["asked"]["forcing"] / (36 * np.pi**2)
    error = np.linalg.norm(names["answer"] - exact) / np.linalg.norm(exact)
    (told,) = re.findall(r"off by ([\d.]+) %", code)
    assert f"{100 * error:.1f}" == told
