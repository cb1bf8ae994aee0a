"""The tutorial's commands and its Python, in its order, as a reader gives them; only with less to train on and for."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import xarray

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorials" / "reaction-diffusion.md"
FEW = {
    "pretrain": ["--set", "training.num_steps=8", "--set", "training.validate_every=4"],
    "finetune": ["--set", "training.num_steps=4", "--set", "learning_rates=[3e-3]"],
}
FEWER = {
    "pretrain": ["--set", "training.num_steps=150", "--set", "training.validate_every=75"],
    "finetune": ["--set", "training.num_steps=60", "--set", "learning_rates=[3e-3]"],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def found(word: str) -> str:
    """Return the run folder that the page calls ``runs/name-…``."""
    return str(next(Path().glob(word.replace("…", "*")))) if "…" in word else word


def files(**fewer: int) -> None:
    """Write the two files as the example does, or with fewer trajectories on fewer points."""
    spec = importlib.util.spec_from_file_location("example_02", ROOT / "examples" / "02_reaction_diffusion.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    if not fewer:
        example.main(".")
        return
    for name, thresholds in (("measured.nc", (0.1, 0.3)), ("cheap.nc", (-0.1, 0.1))):
        example.write(Path(name), **fewer, thresholds=thresholds, seed=0)


def follow(scifm, settings: dict[str, list[str]], **fewer: int) -> dict:
    """Do all that the page says; return the names that its Python leaves."""
    commands = [shlex.split(line) for line in "".join(blocks("bash")).splitlines()]
    assert commands[0] == ["python", "examples/02_reaction_diffusion.py"]
    Path("recipes").symlink_to(ROOT / "recipes")
    files(**fewer)
    assert len(commands) == 1 + 2 + 6  # the files, what comes before, and the six commands that the page promises
    for program, *words in commands[1:]:
        assert program == "scifm"
        said = scifm(*map(found, words), *settings.get(words[0], []))
        assert said.status == 0, said.err
    names: dict = {}
    (code,) = blocks("python")
    exec(compile(code, str(PAGE), "exec"), names)
    assert (next(Path("runs").glob("finetune-8-*")) / "report.html").stat().st_size > 10_000
    return names


def test_every_line_of_the_tutorial_works(scifm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = follow(scifm, FEW, num_trajectories=12, num_points=16)
    forecast, truth, error = (names[name] for name in ("forecast", "truth", "error"))
    assert dict(forecast.sizes) == {"trajectory": 1, "time": 20, "y": 16, "x": 16}
    assert forecast.time.values.tolist() == [0.25 * step for step in range(1, 21)]
    units = {name: forecast[name].attrs["units"] for name in ("time", "x", "diffusivity")}
    assert units == {"time": "s", "x": "mm", "diffusivity": "mm2 s-1"}
    assert {name: truth[name].attrs["units"] for name in units} == units
    assert error.notnull().all()
    # the same trajectory, of the file that was imported
    with xarray.open_dataset("measured.nc") as measured:
        (place,) = abs(measured.diffusivity - forecast.diffusivity.item()).argsort()[:1].values
        own = measured.inhibitor.isel(trajectory=place, time=slice(1, None))
        assert truth.inhibitor.values[0] == pytest.approx(own.values)


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(scifm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = follow(scifm, FEWER)
    run, store = next(Path("runs").glob("finetune-8-*")), ("--store", "stores/measured", "--json")
    scored = json.loads(scifm("evaluate", run, *store).out)
    assert scored["num_samples"] == 5 * 20
    assert scored["relative_l2"]["mean"] < 0.5 * scored["persistence"]
    judged = json.loads(scifm("rollout", run, *store).out)
    assert judged["time_unit"] == "s"
    model, baselines = judged["errors"]["relative_l2"], judged["baselines"]
    assert all(model[-1] < 0.5 * own["relative_l2"][-1] for own in baselines.values())
    assert float(names["error"][:, -1].mean()) < 0.5 * float(names["truth"].activator[:, -1].std())
