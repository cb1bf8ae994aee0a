"""A study folder and a run folder as the other rooms leave them, with numbers that are easy to find again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FEW_SHOT = {16: 0.0412, 64: 0.0213, 256: 0.0174}
FROM_SCRATCH = {16: 0.187, 64: 0.0661, 256: 0.0398, 1024: 0.0287}
SEED_FACTORS = (0.93, 1.07)

ENVIRONMENT = {
    "python": "3.11.9",
    "versions": {"scifm": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
    "processor": "Example Processor 9000 @ 2.5 GHz",
    "num_cores": 2,
    "system": "Linux-6.1-x86_64",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "command": "scifm demo --out runs/demo",
    "started": "2025-01-02T03:04:05+0000",
}


TARGET, SOURCE = "poisson-5-10", "poisson-1-5"
RECIPE = """title = "demo"
num_modes = 16
[[sources]]
name = "poisson-1-5"
systems = [{ name = "poisson", weight = 1.0, knobs = { anisotropy = [1, 5], diffusion = 0.01 } }]
[[targets]]
name = "poisson-5-10"
system = { name = "poisson", knobs = { anisotropy = [5, 10], diffusion = 0.01 } }
[adapt]
try_zero_shot = false
learning_rates = [0.001, 0.003, 0.01]
scratch_learning_rates = [0.002, 0.02]
"""


def _row(kind: str, count: int, seed: int, error: float, run: str) -> dict:
    trained = kind in ("few_shot", "from_scratch")
    return {
        "kind": kind,
        "source": "" if kind == "from_scratch" else SOURCE,
        "target": TARGET,
        "size": "small",
        "method": "all" if kind == "few_shot" else "",
        "num_samples": count,
        "seed": seed,
        "learning_rate": 0.003 if trained else None,
        "num_trials": 3 if trained else 1,
        "trial_steps": 600 if trained else 0,
        "num_steps": 300 if trained else 3000,
        "relative_l2": error,
        "relative_l2_median": 0.9 * error,
        "relative_l2_p90": 1.6 * error,
        "seconds": 9.5 if trained else 301.0,
        "run": run,
    }


def _rows() -> list[dict]:
    rows = [
        _row("in_distribution", 0, 0, 0.0121, "runs/pretrain-0a1b2c3d"),
        _row("zero_shot", 0, 0, 0.0834, "runs/pretrain-0a1b2c3d"),
    ]
    for kind, prefix, errors in (("few_shot", "finetune", FEW_SHOT), ("from_scratch", "from_scratch", FROM_SCRATCH)):
        for count, error in errors.items():
            for seed, factor in enumerate(SEED_FACTORS):
                rows.append(_row(kind, count, seed, error * factor, f"runs/{prefix}-{count}-{seed}-0a1b2c3d"))
    return rows


def _curve(kind: str, errors: dict[int, float]) -> dict:
    points = [
        {
            "num_samples": count,
            "median": error,
            "low": 0.93 * error if count else None,
            "high": 1.07 * error if count else None,
            "values": [error * factor for factor in SEED_FACTORS] if count else [error],
        }
        for count, error in errors.items()
    ]
    source, method = ("" if kind == "from_scratch" else SOURCE), ("all" if kind == "few_shot" else "")
    return {"kind": kind, "source": source, "target": TARGET, "size": "small", "method": method, "points": points}


def demo_analysis() -> dict:
    """Return the analysis of a study with one task, as the demo is."""
    gains = [
        {"source": SOURCE, "target": TARGET, "size": "small", "method": "all", "num_samples": n,
         "gain": FROM_SCRATCH[n] / FEW_SHOT[n], "low": 0.9 * FROM_SCRATCH[n] / FEW_SHOT[n],
         "high": 1.1 * FROM_SCRATCH[n] / FEW_SHOT[n], "negative": False}
        for n in FEW_SHOT
    ]  # fmt: skip
    return {
        "title": "Poisson(1–5) to Poisson(5–10)",
        "num_test_samples": 512,
        "num_seeds": 2,
        "level": 0.9,
        "verdict": [{"said": "Pre-training is worth it.", "evidence": "Three gains.", "good": True}],
        "targets": [{"name": TARGET, "system": "poisson", "label": "Poisson, anisotropy 5 to 10"}],
        "sources": [{"name": SOURCE, "systems": ["poisson"], "label": "Poisson, anisotropy 1 to 5"}],
        "sizes": [{"name": "small", "num_params": 2_105_000}],
        "curves": [
            _curve("in_distribution", {0: 0.0121}),
            _curve("zero_shot", {0: 0.0834}),
            _curve("few_shot", FEW_SHOT),
            _curve("from_scratch", FROM_SCRATCH),
        ],
        "gains": gains,
        "audits": [{"name": "test disjoint", "good": True, "said": "none is"}],
        "seconds": 512.3,
        "seconds_by_part": {"pretrain": 301.0, "adapt": 183.0},
    }


def _smooth(generator: np.random.Generator, num_fields: int, points: int, cutoff: float) -> np.ndarray:
    """Random periodic fields of shape (field, y, x) with maximum 1."""
    noise = np.fft.rfft2(generator.standard_normal((num_fields, points, points)))
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(points, 1 / points), np.fft.rfftfreq(points, 1 / points), indexing="ij"))
    fields = np.fft.irfft2(noise * np.exp(-((k / cutoff) ** 2)) * (k > 0), s=(points, points))
    return fields / np.abs(fields).max(axis=(1, 2), keepdims=True)


def write_examples(path: Path, *, points: int = 64, extent: tuple[float, float] = (1.0, 1.0)) -> None:
    generator = np.random.default_rng(0)
    truth = 0.4 * _smooth(generator, 3, points, 3.0)
    size = np.linalg.norm(truth, axis=(1, 2), keepdims=True)
    arrays = {"forcing": _smooth(generator, 3, points, 7.0), "truth": truth}
    for kind, error in (("zero_shot", 0.0834), ("few_shot", FEW_SHOT[64]), ("from_scratch", FROM_SCRATCH[64])):
        difference = _smooth(generator, 3, points, 6.0)
        difference *= error * size / np.linalg.norm(difference, axis=(1, 2), keepdims=True)
        arrays[kind] = (truth + difference).astype(np.float32)
        arrays[f"sample_error_{kind}"] = np.full(3, error)
    np.savez(
        path,
        **arrays,
        coefficients=np.array([[0.0512, 0.0488, -0.0321], [0.0811, 0.0103, 0.0044], [0.0231, 0.0691, 0.0189]]),
        coefficient_names=np.array(["diffusion_xx", "diffusion_yy", "diffusion_xy"]),
        zero_shot_label=np.array("zero-shot"),
        few_shot_label=np.array("fine-tuned on 64"),
        from_scratch_label=np.array("from scratch on 64"),
        extent=np.array(extent),
    )


def write_metrics(folder: Path, *, steps: int, first: float, last: float, seed: int = 0, validate: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    events = []
    for step in range(10, steps + 1, 10):
        level = last + (first - last) * np.exp(-6 * step / steps)
        noise = float(np.exp(0.12 * generator.standard_normal()))
        rate = 0.003 * (1 - step / steps)
        events.append(
            {"event": "train", "step": step, "loss": level * noise, "learning_rate": rate, "seconds": step / 9}
        )
        if validate and step % 50 == 0:
            events.append({"event": "valid", "step": step, "relative_l2": 1.1 * level})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """Return the folder of a study with one task: all that a page can show."""
    return written_study(tmp_path / "demo")


@pytest.fixture(scope="module")
def kept_study(tmp_path_factory) -> Path:
    """Return the same folder for all tests of a file, which leave it as it is."""
    return written_study(tmp_path_factory.mktemp("kept") / "demo")


def written_study(folder: Path) -> Path:
    folder.mkdir()
    (folder / "analysis.json").write_text(json.dumps(demo_analysis()))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "config.toml").write_text(RECIPE)
    rows = _rows()
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    write_examples(folder / "examples.npz")
    write_metrics(folder / "runs" / "pretrain-0a1b2c3d", steps=3000, first=0.9, last=0.012)
    for seed, row in enumerate(rows):
        if row["kind"] in ("few_shot", "from_scratch"):
            scratch = row["kind"] == "from_scratch"
            first = 0.9 if scratch else 0.09
            write_metrics(
                folder / row["run"], steps=300, first=first, last=row["relative_l2"], seed=seed, validate=False
            )
    return folder


def plan_entries() -> dict:
    """Return plan.json as `scifm plan` writes it."""
    need = {"median": 96.0, "low": 41.0, "high": 260.0, "level": 0.8, "reachable": 0.93}
    points = [
        {"kind": kind, "num_samples": n, "repeat": r, "relative_l2": scale * n**-0.4 * (1 + 0.1 * r),
         "errors": [0.1, 0.2], "held_out": [r, r + 1], "run": f"runs/{kind}-{n}-{r}"}
        for kind, scale in (("few_shot", 0.2), ("from_scratch", 0.9))
        for n in (3, 6, 12)
        for r in range(3)
    ]  # fmt: skip
    return {
        "target_error": 0.03,
        "num_samples": 16,
        "zero_shot": 0.31,
        "few_shot": {"num_trained_samples": 12, "current_error": 0.081, "need": need, "effective_draws": 812.0},
        "from_scratch": {
            "num_trained_samples": 12,
            "current_error": 0.36,
            "need": need | {"median": 2100.0, "low": 700.0, "high": None, "reachable": 0.6},
            "effective_draws": 655.0,
        },
        "verdict": "collect",
        "findings": [
            {"said": "Collect about 80 more samples (80 % interval 25 to 240).", "evidence": "", "good": None},
            {"said": "Pre-training is worth it.", "evidence": "Probability 0.98.", "good": True, "name": "worth"},
        ],
        "points": points,
        "parent": "runs/pretrain-0a1b2c3d",
        "store": "stores/few",
        "level": 0.8,
        "seconds": 75.0,
    }


@pytest.fixture
def plan_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "plan"
    (folder / "runs").mkdir(parents=True)
    series = [
        {"label": way, "x": [3.0, 7.0], "y": [0.2, 0.1]} for way in ("fine-tuned, measured", "fine-tuned, predicted")
    ]
    axes = {"x": {"label": "number of samples trained on"}, "y": {"label": "relative L2 error"}}
    figure = {"caption": "Errors, measured and predicted.", "panels": [{**axes, "series": series}]}
    (folder / "plan.json").write_text(json.dumps({**plan_entries(), "figure": figure}))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "config.toml").write_text("num_repeats = 3\n")
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pretrain-0a1b2c3d"
    write_metrics(folder, steps=2000, first=0.9, last=0.012)
    (folder / "config.toml").write_text('name = "pretrain"\n[model]\nwidth = 32\n')
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "STATUS").write_text("complete\n")
    errors = np.random.default_rng(1).lognormal(np.log(0.012), 0.4, 128)
    rows = [
        {"sample": i, "frame": 0, "channel": "solution", "relative_l2": float(e), "vrmse": 1.1 * float(e)}
        for i, e in enumerate(errors)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")
    return folder
