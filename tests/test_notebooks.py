"""The notebooks are those of the scripts beside them, executed; and the scripts run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples" / "notebooks").glob("*.py"))
MOST = 150 * 1024  # bytes of a notebook

SMALLER = {
    "01_ask_and_finetune": {
        "NUM_SAMPLES, NUM_STEPS, NUM_TEST = 16, 150, 64": "NUM_SAMPLES, NUM_STEPS, NUM_TEST = 8, 2, 4"
    },
    "02_own_data": {"NUM_TRAJECTORIES, NUM_STEPS = 64, 400": "NUM_TRAJECTORIES, NUM_STEPS = 20, 4"},
    "03_few_shot": {
        "(4, 16, 64), (0, 1), 150, 128": "(4, 8), (0, 1), 2, 4",
    },
}


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "scripts" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_script_becomes_cells():
    cells = tool().cells_of(
        "# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nx = 1\n\nx\n\n# %%\ny = 2  # %% not a cell\n"
    )
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == [
        ("markdown", "# Title\n\nWords."),
        ("code", "x = 1\n\nx"),
        ("code", "y = 2  # %% not a cell"),
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_executed(script):
    file = script.with_suffix(".ipynb")
    text = file.read_text(encoding="utf-8")
    notebook = json.loads(text)
    said = "run python scripts/notebooks.py again"
    wanted = tool().cells_of(script.read_text(encoding="utf-8"))
    for own, cell in zip(notebook["cells"], wanted, strict=True):
        assert (own["cell_type"], "".join(own["source"])) == (cell["cell_type"], "".join(cell["source"])), said
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), said
    outputs = [output for cell in code for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"], "a reader should see no warning"
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert len(text) <= MOST
    assert not [place for place in ("/root", "/home", "/tmp", "/work") if place in text]


def test_every_script_is_made_smaller_here():
    assert set(SMALLER) == {script.stem for script in SCRIPTS}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_scripts_run(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    code = script.read_text(encoding="utf-8")
    for size, smaller in SMALLER[script.stem].items():
        assert code.count(size) == 1, size
        code = code.replace(size, smaller)
    names: dict = {"__name__": "notebook"}
    exec(compile(code, str(script), "exec"), names)
    if script.stem == "01_ask_and_finetune":
        assert set(names["scores"]) == {"as it comes", "fine-tuned", "from scratch"}
        assert "diffusion" in str(names["caught"][0].message)
        assert names["scores"]["as it comes"].mean() < names["scores"]["from scratch"].mean()
    elif script.stem == "02_own_data":
        assert names["store"].signature.state == ("u",)
        assert names["store"].grid.periodic == (True,)
        assert len(names["forecast"].times) == 20
    else:
        assert names["errors"]["fine-tuned"].shape == (2, 2)
        assert (names["gain"] > 1).all()
