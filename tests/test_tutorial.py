"""The tutorial's commands, in its order, as a reader gives them; only with fewer training steps."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorials" / "reaction-diffusion.md"
FEWER = {
    "pretrain": ["--set", "training.num_steps=150", "--set", "training.validate_every=75"],
    "finetune": ["--set", "training.num_steps=60", "--set", "learning_rates=[3e-3]"],
}


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in "".join(blocks).splitlines()]


def found(word: str) -> str:
    """Return the run folder that the page calls ``runs/name-…``."""
    return str(next(Path().glob(word.replace("…", "*")))) if "…" in word else word


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(scifm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    after_the_heading = 0
    for program, *words in commands():
        if program == "python":
            subprocess.run([sys.executable, *words], check=True, timeout=240)
            continue
        said = scifm(*map(found, words), *FEWER.get(words[0], []))
        assert said.status == 0, said.err
        after_the_heading += 1
    assert after_the_heading == 2 + 5  # what comes before, and the five commands that the page promises
    run = next(Path("runs").glob("finetune-8-*"))
    assert (run / "report.html").stat().st_size > 10_000
    scored = json.loads(scifm("evaluate", run, "--store", "stores/measured", "--json").out)
    assert scored["num_samples"] == 5 * 20
    assert scored["relative_l2"]["mean"] < 0.5 * scored["persistence"]
