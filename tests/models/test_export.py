from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import tiny
from scifm.data.normalize import fit_normalization
from scifm.data.origins import SystemOrigin
from scifm.errors import ConfigError, RunError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded
from scifm.fields.window import Window
from scifm.models import export
from scifm.models.export import EXPORT_FORMATS, TOLERANCE, export_operator
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import save_operator
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "export.md"
LINE = Grid.square(8, num_spatial_dims=1)
ONE_LAYER = {**tiny.NETWORK, "num_layers": 1}  # half as long to trace, where one layer is as good as two


@pytest.fixture(scope="module")
def operator() -> Operator:
    """Return one that scales what it is given, sample by sample."""
    torch.manual_seed(0)
    normalization = fit_normalization(tiny.batch(16), Poisson.homogeneities)
    return FNO(Poisson.signature, FNOConfig(**tiny.NETWORK), normalization=normalization)


@pytest.fixture(scope="module")
def exported(operator, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for to in EXPORT_FORMATS:
        export_operator(operator, folder / to, to=to, grid=tiny.GRID, num_points=[(16, 16), (24, 20)])
    return folder


@pytest.fixture(scope="module")
def session(exported) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported / "onnx" / "operator.onnx")


@pytest.fixture(scope="module")
def program(exported) -> torch.nn.Module:
    return torch.export.load(exported / "torch-export" / "operator.pt2").module()


def samples(space: tuple[int, ...], batch_size: int) -> Batch:
    batch = Poisson().sample(batch_size, Grid.square(16), torch.Generator().manual_seed(7), dtype=torch.float32)
    white = torch.randn(batch_size, 1, 1, *space, generator=torch.Generator().manual_seed(8))
    return Batch(batch.signature, Grid(space, (1.0, 1.0), (True, True)), 3e3 * white, batch.coefficients)


def difference(found: np.ndarray, wanted: torch.Tensor) -> float:
    return float((torch.from_numpy(found) - wanted).norm() / wanted.norm())


# both trace alike and differ in what they write: the second way of what is special to a network is for the slow tests
_FORMATS = ["onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in EXPORT_FORMATS if name != "onnx")]
both_formats = pytest.mark.parametrize("to", _FORMATS)


# 8 is the number of points of the hidden layers: there nothing is resized, and the highest mode gets through.
@pytest.mark.parametrize("space", [(16, 16), (21, 34), (8, 8), (8, 12), (6, 6)])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_file_answers_on_any_grid_and_batch(operator, session, program, space, batch_size):
    batch = samples(space, batch_size)
    wanted = operator.predict(batch).require_targets()[:, 0]
    inputs, coefficients = batch.inputs[:, 0], batch.coefficients
    found = session.run(None, {"inputs": inputs.numpy(), "coefficients": coefficients.numpy()})[0]
    assert difference(found, wanted) < 1e-5
    assert difference(program(inputs, coefficients).detach().numpy(), wanted) < 1e-5


@both_formats
def test_between_walls_a_file_answers_on_any_grid_too(to, tmp_path):
    """The passage from wall to wall is a quarter of the points, rounded up: ONNX rounds negative numbers otherwise."""
    torch.manual_seed(0)
    operator = FNO(Signature(("f",), ("a",), ("u",)), FNOConfig(**ONE_LAYER))
    walls = (False, False)
    (file,) = export_operator(operator, tmp_path, to=to, grid=Grid((16, 16), (1.0, 1.0), walls))
    assert file.num_points == (None, None)
    for space in ((16, 16), (13, 18), (21, 11)):
        inputs, coefficients = torch.randn(2, 1, *space), torch.randn(2, 1)
        batch = Batch(operator.signature, Grid(space, (1.0, 1.0), walls), inputs[:, None], coefficients)
        found = EXPORT_FORMATS[to].load(file.path)(inputs, coefficients).detach().numpy()
        assert difference(found, operator.predict(batch).require_targets()[:, 0]) < 1e-5


@pytest.mark.slow
@both_formats
def test_a_file_measures_transport_by_the_box_it_was_made_for(to, tmp_path):
    box = Grid((12, 16), (0.5, 1.5), (True, True))
    problems = AdvectionDiffusion().sample(8, box, torch.Generator().manual_seed(0))
    normalization = fit_normalization(problems, AdvectionDiffusion.homogeneities)
    torch.manual_seed(0)
    operator = FNO(problems.signature, FNOConfig(**ONE_LAYER), normalization=normalization)
    (file,) = export_operator(operator, tmp_path, to=to, grid=box)
    wanted = operator.predict(problems).require_targets()[:, 0]
    found = EXPORT_FORMATS[to].load(file.path)(problems.inputs[:, 0], problems.coefficients)
    assert difference(found.detach().numpy(), wanted) < 1e-5
    elsewhere = replace(problems, grid=Grid(box.num_points, (1.0, 1.0), box.boundary))
    assert difference(found.detach().numpy(), operator.predict(elsewhere).require_targets()[:, 0]) > 1e-3


@both_formats
def test_an_operator_that_sees_its_lead_time_is_exported_with_it(to, tmp_path):
    """Burgers at one lead time: its scaling needs the time, which no input of the file gives."""
    origin = SystemOrigin.of(Burgers(num_frames=3), Grid.square(16, num_spatial_dims=1), Window())
    windows = origin.fitting(8, 0)
    normalization = fit_normalization(windows, origin.homogeneities)
    torch.manual_seed(0)
    network = FNOConfig(**ONE_LAYER).on(origin.grid, history=1, lead_time=True)
    operator = FNO(origin.signature, network, normalization=normalization)
    assert operator.sees_lead_time
    operator.domain = Domain(origin.lead_times)
    (file,) = export_operator(operator, tmp_path, to=to, grid=origin.grid)
    answer = EXPORT_FORMATS[to].load(file.path)
    for batch_size in (1, 2, 5):
        batch = windows.select(slice(0, batch_size))
        found = answer(batch.inputs[:, 0], batch.coefficients)
        assert difference(found.detach().numpy(), operator.predict(batch).require_targets()[:, 0]) < 1e-5
    sooner = replace(batch, lead_time=0.5 * batch.lead_time, targets=None)
    operator.domain = Domain((0.5 * origin.lead_times[0],) * 2)
    assert difference(found.detach().numpy(), operator.predict(sooner).require_targets()[:, 0]) > 1e-3


def test_the_files_tell_what_they_are(operator, exported, session, tmp_path):
    save_operator(operator, tmp_path)
    weights = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    told = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    extra = {"scifm.json": ""}
    torch.export.load(exported / "torch-export" / "operator.pt2", extra_files=extra)
    assert told == json.loads(extra["scifm.json"])
    assert told["inputs"] == list(Poisson.signature.inputs)
    assert told["coefficients"] == list(Poisson.signature.coefficients)
    assert told["outputs"] == list(Poisson.signature.outputs)
    assert told["weights_sha256"] == weights
    assert [entry.shape for entry in session.get_inputs()] == [["batch", 1, "y", "x"], ["batch", 3]]
    assert session.get_outputs()[0].shape == ["batch", 1, "y", "x"]
    written = json.loads((exported / "onnx" / "export.json").read_text())
    assert {key: written[key] for key in told if key not in ("num_points", "min_points")} == {
        key: value for key, value in told.items() if key not in ("num_points", "min_points")
    }
    (file,) = written["files"]
    assert file["num_points"] == [None, None]
    assert file["num_bytes"] == (exported / "onnx" / "operator.onnx").stat().st_size
    asked = [(tuple(check["num_points"]), check["batch_size"]) for check in file["checks"]]
    assert asked == [(space, size) for space in ((16, 16), (24, 20)) for size in (1, 3, 7)]
    assert all(0 < check["difference"] < TOLERANCE for check in file["checks"])
    assert sorted(os.listdir(exported / "onnx")) == ["export.json", "operator.onnx"]


@pytest.mark.parametrize("dims", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_other_dimensions_and_no_coefficients(dims, tmp_path):
    network = FNO(Signature(("a", "b"), (), ("u",), dims), FNOConfig(**{**tiny.NETWORK, "num_layers": 1}))
    grid = Grid.square(12, num_spatial_dims=dims)
    (file,) = export_operator(network, tmp_path, to="onnx", grid=grid, num_points=[grid.num_points, (10,) * dims])
    assert file.num_points == (None,) * dims
    assert max(check.difference for check in file.checks) < 1e-5


def test_the_reference_network_in_double_precision_and_its_other_engine(tmp_path):
    config = FNOConfig.reference(width=4, modes=3).model_copy(update={"engine": "fft", "num_layers": 2})
    network = FNO(Poisson.signature, config).double()
    (file,) = export_operator(network, tmp_path, to="torch-export", grid=tiny.GRID, num_points=[(16, 16), (7, 9)])
    assert max(check.difference for check in file.checks) < 1e-13
    assert file.min_points == (6, 6)
    program = torch.export.load(file.path).module()
    with pytest.raises(AssertionError, match="6"):
        program(torch.ones(2, 1, 5, 16, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64))


def test_exporting_leaves_the_operator_and_its_matrices_alone(operator, tmp_path):
    fresh = tiny.operator(latent_points=10, num_layers=1)
    fresh.train()
    batch = samples((22, 22), 2)
    export_operator(fresh, tmp_path, to="torch-export", grid=tiny.GRID, num_points=[(22, 22)])
    assert fresh.training
    fresh(batch).require_targets().sum().backward()
    assert all(p.grad is not None for p in fresh.parameters())


class Tied(Operator):
    """One matrix tied to its grid; on request it answers otherwise when written down, or needs what ONNX lacks."""

    kind = "tied"

    def __init__(self, wrong: bool = False, complex_numbers: bool = False) -> None:
        super().__init__(Signature(("f",), (), ("u",), 1), OperatorConfig())
        self.weight = torch.nn.Parameter(torch.randn(12, 12))
        self.wrong, self.complex_numbers = wrong, complex_numbers

    def network(self, encoded: Encoded) -> torch.Tensor:
        inputs = encoded.inputs
        points = inputs.shape[-1]
        if not self.wrong:
            hash(points)  # as a cache would: refused where numbers of points are symbols
        out = inputs @ self.weight[: int(points), : int(points)]
        if self.complex_numbers:
            out = torch.linalg.eigvals(self.weight[:points, :points]).real * out
        return 1.001 * out if self.wrong and torch.compiler.is_exporting() else out


def test_an_operator_tied_to_its_grid_gets_a_file_for_each(tmp_path):
    files = export_operator(Tied(), tmp_path, to="torch-export", grid=LINE, num_points=[(8,), (12,)])
    assert [file.path.name for file in files] == ["operator-8.pt2", "operator-12.pt2"]
    assert [file.num_points for file in files] == [(8,), (12,)]


def test_a_file_that_answers_otherwise_is_deleted(tmp_path):
    (tmp_path / "operator-8.pt2").write_text("an earlier one")
    with pytest.raises(RunError, match=r"differs from the operator by 0\.001 on 8 points"):
        export_operator(Tied(wrong=True), tmp_path, to="torch-export", grid=LINE)
    assert os.listdir(tmp_path) == ["operator-8.pt2"]
    assert (tmp_path / "operator-8.pt2").read_text() == "an earlier one"


def test_what_a_format_does_not_know_is_told(tmp_path):
    with pytest.raises(RunError, match="'tied' cannot be written as onnx"):
        export_operator(Tied(complex_numbers=True), tmp_path, to="onnx", grid=LINE)
    assert os.listdir(tmp_path) == []


def test_bad_input(operator, tmp_path, monkeypatch):
    known: dict[str, Any] = {"to": "torch-export", "grid": tiny.GRID}
    with pytest.raises(ConfigError, match="Did you mean 'onnx'"):
        export_operator(operator, tmp_path, to="onx", grid=tiny.GRID)
    with pytest.raises(SignatureError, match="at least twice as many points"):
        export_operator(tiny.operator(latent_points=0), tmp_path, **known, num_points=[(16, 16), (4, 4)])
    dead = tiny.operator()
    with torch.no_grad():
        next(dead.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="not finite"):
        export_operator(dead, tmp_path, **known)
    (tmp_path / "wall").write_text("mine")
    with pytest.raises(RunError, match="Cannot write"):
        export_operator(Tied(), tmp_path / "wall" / "in", to="torch-export", grid=LINE)
    assert os.listdir(tmp_path) == ["wall"]
    load = importlib.import_module

    def without(name: str) -> Any:
        if name == "onnxscript":
            raise ImportError(name)
        return load(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ConfigError, match=r"scifm\[export\]"):
        export_operator(operator, tmp_path, to="onnx", grid=tiny.GRID)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        export_operator(Tied(), tmp_path, to="torch-export", grid=LINE)
    assert os.listdir(tmp_path) == []


def test_the_example_of_the_guide(exported, tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^import (\w+)", code, re.MULTILINE)) == {"json", "numpy", "onnxruntime"}
    (tmp_path / "exported").symlink_to(exported / "onnx")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, GUIDE.name, "exec"), names)
    assert names["outputs"].shape == (5, 1, 64, 64)
    assert np.isfinite(names["outputs"]).all()
    assert export.TOLERANCE == 1e-4
