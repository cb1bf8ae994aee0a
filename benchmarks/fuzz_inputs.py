"""Bad inputs for `fuzz`, one function a public door; each input follows from a seed, its kind and its number alone.

Every function takes the examples (good files, made once), a dice and an empty folder, and goes through the door. It
returns when the answer is right, and raises whatever the library raised; `WrongAnswerError` where damage went unnoticed.
"""

# ruff: noqa: E501 - tables of odd values
from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import random
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import torch

from fuzz_damage import WEIRD, spoil_bytes, spoil_file, spoil_hdf5, spoil_json, spoil_npy, spoil_tree, spoil_weights
from scifm.config import apply_overrides, build_config, dump_toml, read_toml
from scifm.data.formats import FORMATS
from scifm.data.formats.mapping import DataMapping
from scifm.data.generate import generate
from scifm.data.importing import import_data, open_data
from scifm.data.inspection import inspect_data
from scifm.data.store import Store
from scifm.data.well import Layout
from scifm.errors import SciFMError
from scifm.evaluation.rollouts import forecast
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.models.foreign_files import import_reference_weights, read_state_dict
from scifm.models.registry import load_operator, save_operator
from scifm.runs import Run
from scifm.studies.recipe import StudyRecipe
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Checkpoint, Position
from scifm.training.finetune import AdaptRecipe
from scifm.training.pretrain import PretrainRecipe, build_operator

__all__ = ["KINDS", "Examples", "WrongAnswerError", "go_through", "make_examples"]

NETWORK = {"width": 4, "modes": 3, "num_layers": 2, "projection_width": 8, "latent_points": 8}
ADAPTING = {"num_steps": 2, "batch_size": 4, "validate_every": 2, "accelerator": "cpu"}
TRAINING = {**ADAPTING, "learning_rate": 1e-2}
PRETRAIN: dict[str, Any] = {
    "name": "tiny",
    "seed": 1,
    "system": {"name": "poisson", "knobs": {"anisotropy": [1, 5]}},
    "data": {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8},
    "model": {"network": NETWORK},
    "training": TRAINING,
}
ADAPT: dict[str, Any] = {
    "learning_rates": [1e-3],
    "training": ADAPTING,
    "method": {"method": "low_rank", "rank": 2},
}
EVOLVING: dict[str, Any] = {
    **PRETRAIN,
    "system": {"name": "burgers", "knobs": {"viscosity": [0.01, 0.05]}, "options": {"num_frames": 5}},
    "data": {**PRETRAIN["data"], "history": 2, "horizon": 2, "stride": 1, "windows_per_trajectory": 2},
}
STUDY: dict[str, Any] = {
    "title": "tiny",
    "seeds": [0],
    "few_shot": [4],
    "from_scratch": [4],
    "sizes": ["toy"],
    "networks": {"toy": NETWORK},
    "sources": [{"name": "poisson", "systems": [{"name": "poisson", "knobs": {"anisotropy": [1, 5]}}]}],
    "targets": [{"name": "near", "system": {"name": "poisson", "knobs": {"anisotropy": [1, 3]}}}],
    "pool_size": 12,
    "num_test_samples": 6,
}
MAPPING: dict[str, Any] = {
    "format": "arrays",
    "fields": {"u": {"array": "u", "axes": ["trajectory", "time", "y", "x"], "role": "state"}},
    "coefficients": {"nu": {"value": 0.1}},
    "time": {"start": 0.0, "interval": 0.1},
    "extent": {"x": 1.0, "y": 1.0},
    "periodic": {"x": True, "y": True},
}
RECIPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "pretrain": (PretrainRecipe, PRETRAIN),
    "evolving": (PretrainRecipe, EVOLVING),
    "adapt": (AdaptRecipe, ADAPT),
    "study": (StudyRecipe, STUDY),
    "mapping": (DataMapping, MAPPING),
}


class WrongAnswerError(AssertionError):
    """Damage went unnoticed, or something was done that must never be done."""


class Examples:
    """Good files, made once in a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store, self.run, self.model = root / "store", root / "run", root / "model"
        self.trajectories, self.forecaster = root / "trajectories", root / "forecaster"
        self.checkpoints, self.foreign, self.formats = root / "checkpoints", root / "foreign", root / "formats"


# --- good files -------------------------------------------------------------------------------------------------------


def make_examples(root: Path) -> Examples:
    """Write a good file of every kind."""
    examples = Examples(root)
    generate(Poisson(), num_samples={"train": 6, "valid": 3, "test": 3}, num_points=16, path=examples.store, seed=0)
    recipe = PretrainRecipe.read(PRETRAIN)
    store = Store.open(examples.store)
    operator = build_operator(Poisson.signature, recipe.model.resolve(), _normalization(store), seed=0)
    save_operator(operator, examples.model)
    run = Run.prepare(root, "run", recipe.to_dict())
    run.log(event="train", step=1, loss=1.0)
    save_operator(operator, run.path / "model")
    run.set_status("complete")
    run.path.rename(examples.run)
    _make_forecaster(examples)
    _make_checkpoints(examples)
    _make_foreign(examples)
    for name, make in FORMAT_EXAMPLES.items():
        (examples.formats / name).mkdir(parents=True)
        make(examples.formats / name)
    return examples


def _make_forecaster(examples: Examples) -> None:
    """Write trajectories, and a run that takes two frames of them."""
    system = Burgers(num_frames=5)
    counts = {"train": 6, "valid": 3, "test": 3}
    store = generate(system, num_samples=counts, num_points=16, path=examples.trajectories, seed=0)
    recipe = PretrainRecipe.read(EVOLVING)
    network = recipe.model.resolve().on(store.grid, history=2, lead_time=True)
    operator = build_operator(system.signature, network, _normalization(store), seed=0)
    operator.domain = Domain((0.05, 0.05))
    run = Run.prepare(examples.root, "forecaster", {**recipe.to_dict(), "origin": recipe.origin.describe()})
    save_operator(operator, run.path / "model")
    run.set_status("complete")
    run.path.rename(examples.forecaster)


def _normalization(store: Store) -> Any:
    from scifm.data.normalize import fit_normalization

    return fit_normalization(store.split("train").load(), store.homogeneities)


def _trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    return module, optimizer


def _make_checkpoints(examples: Examples) -> None:
    module, optimizer = _trained()
    for step in (1, 2):
        Checkpoint(examples.checkpoints).save(module, optimizer, Position(step=step), {"weight": torch.ones(2, 3)})


def _reference_state() -> dict[str, torch.Tensor]:
    width, modes = 4, 3
    state = {"fc0.weight": torch.ones(width, 4), "fc0.bias": torch.ones(width)}
    for index in range(2):
        for half in "12":
            state[f"sp_convs.{index}.weights{half}"] = torch.ones(width, width, modes, modes, 2)
        state |= {f"ws.{index}.weight": torch.ones(width, width, 1), f"ws.{index}.bias": torch.ones(width)}
    state |= {"fc1.weight": torch.ones(8, width), "fc1.bias": torch.ones(8)}
    return state | {"fc2.weight": torch.ones(1, 8), "fc2.bias": torch.ones(1)}


def _make_foreign(examples: Examples) -> None:
    from safetensors.torch import save_file

    examples.foreign.mkdir()
    state = _reference_state()
    torch.save({"iters": 1, "model_state": state}, examples.foreign / "a.tar")
    torch.save(state, examples.foreign / "b.pt", _use_new_zipfile_serialization=False)
    save_file(state, examples.foreign / "c.safetensors")


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype("f4")


def _write_transfer(folder: Path) -> None:
    with h5py.File(folder / "_train.h5", "w") as file:
        file["fields"], file["tensor"] = _numbers(5, 2, 8, 10), np.abs(_numbers(5, 3))


def _write_pdebench(folder: Path) -> None:
    with h5py.File(folder / "2D_CFD.hdf5", "w") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name] = _numbers(5, 3, 8, 10)
        file["x-coordinate"], file["y-coordinate"] = (np.arange(8) + 0.5) / 8, (np.arange(10) + 0.5) / 10
        file["t-coordinate"], file.attrs["eta"] = np.arange(4) * 0.1, 0.01


def _write_xarray(folder: Path) -> None:
    import xarray

    u = (("sample", "time", "y", "x"), _numbers(5, 3, 8, 10))
    data = xarray.Dataset({"speed": u}, {"time": np.arange(3.0), "y": np.arange(8) / 8, "x": np.arange(10) / 10})
    data.to_netcdf(folder / "flow.nc", engine="h5netcdf")
    data.to_netcdf(folder / "classic.nc", engine="scipy")
    data.to_zarr(folder / "three.zarr", zarr_format=3)
    data.to_zarr(folder / "two.zarr", zarr_format=2)


def _write_arrays(folder: Path) -> None:
    u, t = _numbers(5, 3, 8, 10), np.arange(3.0)
    np.save(folder / "u.npy", u)
    np.savez(folder / "plain.npz", u=u, t=t)
    np.savez_compressed(folder / "packed.npz", u=u, t=t)
    with h5py.File(folder / "u.h5", "w") as file:
        file["u"], file["t"] = u, t


def _write_well(folder: Path) -> None:
    grid = Grid((8, 10), (1.0, 1.0), (True, True))
    mapping = build_config(DataMapping, MAPPING)
    path = folder / "flow.hdf5"
    with h5py.File(path, "w") as file:
        layout = Layout("flow", mapping.signature, grid, 5, np.dtype("f4"), (0.0, 0.1, 0.2))
        layout.create(file, {})
        layout.fill(file, "u", _numbers(5, 3, 8, 10))
        layout.fill(file, "nu", np.full(5, 0.1, "f4"))
        del file["provenance"]  # as if another program had written it


FORMAT_EXAMPLES: dict[str, Callable[[Path], None]] = {
    "transfer": _write_transfer,
    "pdebench": _write_pdebench,
    "xarray": _write_xarray,
    "arrays": _write_arrays,
    "well": _write_well,
}


# --- doors ------------------------------------------------------------------------------------------------------------


def _recipe(examples: Examples, dice: random.Random, folder: Path) -> None:
    cls, good = RECIPES[dice.choice(list(RECIPES))]
    tree = spoil_tree(copy.deepcopy(good), dice)
    way = dice.randrange(4)
    overrides = _overrides(dice) if way == 0 else []
    if way == 1:
        file = folder / "recipe.toml"
        file.write_bytes(spoil_bytes(dump_toml(good).encode(), dice))
        tree = read_toml(file)
    if cls in (PretrainRecipe, StudyRecipe):
        made = cls.read(tree if isinstance(tree, dict) else good, overrides=overrides)
    else:
        made = build_config(cls, apply_overrides(tree, overrides) if overrides else tree)
    again = made.to_dict()
    if build_config(cls, again) != made:
        raise WrongAnswerError(f"what was read is not what it says it is: {again}")
    if isinstance(made, DataMapping):
        _ = made.signature


def _overrides(dice: random.Random) -> list[str]:
    keys = ("training.num_steps", "model.network.width", "data.num_points", "name", "a.b.c", "", ".", "seed.x",
            "system.knobs", "training", "fields.u.axes", "time.start", "__class__", "x" * 5000)  # fmt: skip
    values = [json.dumps(value, default=str) for value in WEIRD] + [
        "=",
        "[",
        '"',
        "[" * 3000,
        "1" * 5000,
        "{a=1}",
        "0x",
    ]
    return [f"{dice.choice(keys)}{dice.choice(('=', '=', '=', '', ':'))}{dice.choice(values)}" for _ in range(2)]


_MODEL_TEXTS = ("poisson", "helmholtz", "nothing", "0", "-1", "2", "1e999", "nan", "true", "", "a=b", "=", "x=1,2",
                "anisotropy=5,1", "anisotropy=nan,inf", "anisotropy=1", "☃", "\x00", "--", "-", "../..", "99999999999999",
                "train", "onnx", "affine", "[red]", "name/model", "a,b,c", "tcp://", "{}", "reference", "neuralop")  # fmt: skip
_VERBS = ("inspect", "import", "export", "import-model", "plan", "systems", "generate", "pretrain", "finetune", "evaluate",
          "report", "rollout", "study", "transfer", "demo", "push", "play", "scores", "verify", "check", "compress", "sytems", "")  # fmt: skip
_OPTIONS = ("--out", "--set", "--json", "--map", "--store", "--system", "--knob", "--num-samples", "--num-points", "--seed",
            "--split", "--rename", "--stride", "--to", "--kind", "--inputs", "--outputs", "--coefficients", "--level",
            "--target-error", "--data", "--study", "--method", "--rank", "--quick", "--write-map", "--dry-run",
            "--from-scratch", "--workers", "--normalization", "--unknown", "-h", "--devices", "--learning-rate", "--recipe",
            "--only", "--steps", "--num-frames", "--save-interval")  # fmt: skip


def _command(examples: Examples, dice: random.Random, folder: Path) -> None:
    """Give a command line to the program; what it would take minutes for, a server or the network, only bad words."""
    verb = dice.choice(_VERBS)
    # verbs write into runs, and no input may hang on those before it
    runs = [str(shutil.copytree(run, folder / run.name)) for run in (examples.run, examples.forecaster)]
    files = [str(examples.store), str(examples.trajectories), str(examples.model), *runs, str(folder / "missing"),
             str(folder), str(examples.foreign / "a.tar"), str(examples.formats / "arrays"), "/etc/hostname", "/dev/null"]  # fmt: skip
    recipe = folder / "recipe.toml"
    tree = dice.choice((PRETRAIN, EVOLVING))
    recipe.write_text(dump_toml(tree))
    if dice.random() < 0.7:
        with contextlib.suppress(TypeError, RecursionError, ValueError):  # a tree that TOML cannot tell
            recipe.write_text(dump_toml(spoil_tree(copy.deepcopy(tree), dice)))
    words = [verb]
    patient = verb in ("push", "play", "demo", "study", "transfer", "plan")
    if patient:
        words += [str(folder / "missing"), "--set", f"nothing.{dice.choice(_MODEL_TEXTS)}"]
    elif dice.random() < 0.9:
        words.append(dice.choice([str(recipe), *files] if verb != "generate" else ["poisson", "helmholtz", "nothing"]))
    for _ in range(dice.choice((0, 1, 2, 3, 5))):
        words.append(dice.choice(_OPTIONS))
        if dice.random() < 0.9:
            words.append(dice.choice([*_MODEL_TEXTS, *files, str(folder / "new")]))
    if verb in ("generate", "evaluate", "check", "compress") and "--num-samples" not in words:
        words += ["--num-samples", dice.choice(("4", "8,2", "x"))]
    if verb in ("finetune",):
        words += ["--set", f"training.num_steps={dice.choice(('1', '2', '-1', 'x'))}"]
        words += ["--num-samples", dice.choice(("4", "0", "-1"))]
        words += ["--set", f"learning_rates=[{dice.choice(('1e-3', 'nan', '-1'))}]"]
    if verb == "rollout":
        words += ["--store", dice.choice(files), "--steps", dice.choice(("3", "0", "x"))]
    if verb == "pretrain":
        words += ["--set", "training.num_steps=1"]
    if verb in ("generate", "import", "pretrain", "finetune", "export", "report", "import-model", "compress"):
        words += ["--out", str(folder / "out")]
    _run_command(words)


def _run_command(words: list[str]) -> None:
    from rich.console import Console

    from scifm import cli
    from scifm.cli import app as shared

    out, err = io.StringIO(), io.StringIO()
    console = Console(file=err, width=200)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(mock.patch.object(sys, "argv", ["scifm", *words]))
        for module in [shared, cli, *(m for n, m in sys.modules.items() if n.startswith("scifm.cli."))]:
            if hasattr(module, "console"):
                stack.enter_context(mock.patch.object(module, "console", console))
        try:
            cli.main()
        except SystemExit as end:
            if end.code == 2:
                if "Traceback" in out.getvalue() + err.getvalue() or not err.getvalue().strip():
                    raise WrongAnswerError(f"refused without a word: {words}") from end
                raise SciFMError(err.getvalue()[-300:]) from end
            if end.code == 1 and words[0] == "check" and "Traceback" not in err.getvalue():
                return  # it was asked, and something is bad
            if end.code not in (0, None):
                raise WrongAnswerError(f"exit status {end.code} for {words}: {err.getvalue()[-300:]}") from end


def _store(examples: Examples, dice: random.Random, folder: Path) -> None:
    good = dice.choice((examples.store, examples.trajectories))
    place = Path(shutil.copytree(good, folder / "store"))
    files = sorted(file for file in place.rglob("*") if file.is_file())
    way = dice.randrange(6)
    if way < 2:
        spoil_json(place / "card.json", dice)
    elif way == 2:
        data = dice.choice([file for file in files if file.suffix == ".hdf5"])
        content = data.read_bytes()
        spoil_hdf5(data, dice)
        if dice.random() < 0.7:  # as if the damage had come before the card
            card = json.loads((place / "card.json").read_text())
            card["files"][data.relative_to(place).as_posix()]["num_bytes"] = data.stat().st_size
            (place / "card.json").write_text(json.dumps(card))
        elif data.read_bytes() == content:
            spoil_file(data, dice)
    elif way == 3:
        first, second = dice.sample(files, 2)
        a, b = first.read_bytes(), second.read_bytes()
        first.write_bytes(b)
        second.write_bytes(a)
    elif way == 4:
        statistics = place / "stats.yaml"
        texts = (
            "a: &a [1]\nb: *a",
            "!!python/object/apply:os.system ['touch ran']",
            "[" * 2000,
            "{}",
            "- 1",
            "\t",
            "a: 1",
        )
        if dice.random() < 0.4:
            statistics.write_text(dice.choice(texts))
        else:
            spoil_file(statistics, dice)
    else:
        _lead_out(place, dice)
    changed = {f.relative_to(place) for f in files if f.read_bytes() != (good / f.relative_to(place)).read_bytes()}
    store = Store.open(place)
    if any(not (place / name).resolve().is_relative_to(place.resolve()) for name in store.card.files):
        raise WrongAnswerError(f"files outside the store are taken for its own: {list(store.card.files)}")
    window = Window(dice.choice((1, 2, 4)), dice.choice((1, 2)), dice.choice((1, 3)))
    for split in store.splits:
        if store.signature.evolves and dice.random() < 0.5:
            store.split(split, window).batch([0])
        for number, _ in enumerate(store.split(split).batches(4)):
            if number > 20:
                break
    store.to_xarray(next(iter(store.splits)))
    inspect_data(place)
    try:
        store.verify()
    except SciFMError:
        return
    if changed - {Path("card.json")} and Path("card.json") not in changed:
        raise WrongAnswerError(f"verify() did not notice that {changed} changed")


_ROLLING = ("steps", "stride", "num_samples", "bound", "split", "seed", "store", "system", "horizon", "num_points", "x")


def _rollout(examples: Examples, dice: random.Random, folder: Path) -> None:
    """March from damaged trajectories or with a damaged operator, or as odd settings say."""
    store = Path(shutil.copytree(examples.trajectories, folder / "store"))
    run = Path(shutil.copytree(examples.forecaster, folder / "run"))
    settings: dict[str, Any] = {"store": str(store), "steps": 3, "num_samples": 2}
    way = dice.randrange(5)
    if way == 0:
        data = dice.choice(sorted((store / "data").rglob("*.hdf5")))
        spoil_hdf5(data, dice)
        card = json.loads((store / "card.json").read_text())
        card["files"][data.relative_to(store).as_posix()]["num_bytes"] = data.stat().st_size
        (store / "card.json").write_text(json.dumps(card))
    elif way == 1:
        spoil_json(dice.choice((run / "model" / "config.json", run / "model" / "normalization.json")), dice)
    elif way == 2:
        spoil_weights(run / "model" / "model.safetensors", dice)
    else:
        settings[dice.choice(_ROLLING)] = dice.choice(WEIRD)
    out = folder / "forecast.nc" if dice.random() < 0.5 else None
    forecast(run, out=out, **settings)
    if list(folder.glob("*.part")) or list(folder.glob(".*")):
        raise WrongAnswerError("half a file was left")
    if out is not None:
        with h5py.File(out) as file:
            if not set(file) >= {"velocity", "time", "x", "lost_at"}:
                raise WrongAnswerError(f"the forecast holds {sorted(file)}")


def _lead_out(place: Path, dice: random.Random) -> None:
    """Let the card name a file outside its folder, or a link lead there."""
    outside = place.parent / "outside.hdf5"
    data = next(iter(sorted((place / "data" / "train").glob("*"))))
    outside.write_bytes(data.read_bytes())
    card = json.loads((place / "card.json").read_text())
    name = data.relative_to(place).as_posix()
    entry = card["files"].pop(name)
    way = dice.choice(("data/train/../../../outside.hdf5", str(outside), "../outside.hdf5", "data/train/./../../x"))
    card["files"][way] = entry
    (place / "card.json").write_text(json.dumps(card))


def _checkpoint(examples: Examples, dice: random.Random, folder: Path) -> None:
    place = Path(shutil.copytree(examples.checkpoints, folder / "state"))
    files = sorted(place.glob("*"))
    before = {file.name: file.read_bytes() for file in files}
    for file in files if dice.random() < 0.5 else files[1:]:
        (spoil_weights if dice.random() < 0.7 else spoil_file)(file, dice)
    module, optimizer = _trained()
    found = Checkpoint(place).load(module, optimizer)
    good, good_optimizer = _trained()
    (folder / "good").mkdir()
    name = f"step-{found.position.step:08d}.safetensors"
    if name not in before:
        raise WrongAnswerError("a damaged state was taken for a fresh start")
    (folder / "good" / name).write_bytes(before[name])
    Checkpoint(folder / "good").load(good, good_optimizer)
    for a, b in zip(module.parameters(), good.parameters(), strict=True):
        if not torch.equal(a, b):
            raise WrongAnswerError("other weights than were saved were loaded")


def _run_folder(examples: Examples, dice: random.Random, folder: Path) -> None:
    from scifm.report.page import page

    place = Path(shutil.copytree(examples.run, folder / "run"))
    file = dice.choice([f for f in place.glob("*") if f.is_file()])
    (spoil_json if file.suffix == ".json" else spoil_file)(file, dice)
    if dice.random() < 0.2:
        (place / "parent").write_bytes(dice.choice((b"../../..", b"\x00", b"/etc", b"\xff\xfe", b"a" * 9000, b"")))
    if dice.random() < 0.2:
        (place / "scores.parquet").write_bytes(spoil_bytes(b"PAR1" + bytes(200) + b"PAR1", dice))
    run = Run.open(place)
    _ = run.config, run.parent, run.status, run.metrics()
    run.read_json("environment.json")
    inspect_data(place)
    page(place, out=folder / "page.html")


def _model(examples: Examples, dice: random.Random, folder: Path) -> None:
    place = Path(shutil.copytree(examples.model, folder / "model"))
    way = dice.randrange(5)
    if way < 2:
        spoil_json(place / dice.choice(("config.json", "normalization.json")), dice)
    elif way < 4:
        spoil_weights(place / "model.safetensors", dice)
    else:
        target = dice.choice(
            ("os:system", "subprocess:Popen", "builtins:eval", "torch.nn:Linear", "scifm.cli:main", "a", ":")
        )
        entries = json.loads((place / "config.json").read_text())
        entries |= {"kind": "module", "network": {"target": target, "arguments": {"command": "touch ran", "x": 1}}}
        (place / "config.json").write_text(json.dumps(entries))
    operator = load_operator(place)
    batch = Store.open(examples.store).split("test").load()
    operator.predict(batch)


def _foreign(examples: Examples, dice: random.Random, folder: Path) -> None:
    file = folder / dice.choice(("a.tar", "b.pt", "c.safetensors"))
    good = examples.foreign / file.name
    way, trace = dice.randrange(4), folder / "ran"
    if way == 0:
        payload = _malice(dice, trace)
        if dice.random() < 0.5:
            file.write_bytes(pickle.dumps(payload, protocol=dice.randrange(2, 6)))
        else:
            torch.save(payload, file, _use_new_zipfile_serialization=dice.random() < 0.5)
    elif way == 1 and file.suffix == ".safetensors":
        shutil.copy(good, file)
        spoil_weights(file, dice)
    elif way == 2 and file.suffix == ".tar":
        _spoil_archive(good, file, dice)
    else:
        file.write_bytes(spoil_bytes(good.read_bytes(), dice))
    try:
        state = read_state_dict(file)
        operator = import_reference_weights(state, Poisson.signature)
        operator.predict(Store.open(examples.store).split("test").load())
    finally:
        if trace.exists():
            raise WrongAnswerError("a foreign file ran code")


def _malice(dice: random.Random, trace: Path) -> Any:
    calls = [(exec, (f"open({str(trace)!r}, 'w').close()",)), (Path.touch, (trace,)), (open, (str(trace), "w"))]

    class Evil:
        def __reduce__(self) -> Any:
            return dice.choice(calls)

    return dice.choice(
        (Evil(), {"model_state": {"fc0.weight": Evil()}}, {"model_state": _reference_state(), "x": Evil()})
    )


def _spoil_archive(good: Path, file: Path, dice: random.Random) -> None:
    """Exchange or spoil members of torch's zip archive, or name them so that they would lie elsewhere."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(file, "w") as target:
        members = source.namelist()
        chosen = dice.choice(members)
        for name in members:
            content = source.read(name)
            if name == chosen:
                content = spoil_bytes(content, dice) if dice.random() < 0.7 else source.read(dice.choice(members))
                name = name if dice.random() < 0.8 else dice.choice(("../../escape", "/tmp/escape", "archive/data/99"))
            target.writestr(name, content)


def _format_door(name: str) -> Callable[[Examples, random.Random, Path], None]:
    def door(examples: Examples, dice: random.Random, folder: Path) -> None:
        good = dice.choice(sorted(f for f in (examples.formats / name).iterdir()))
        path = folder / good.name
        if good.is_dir():
            shutil.copytree(good, path)
            _spoil_zarr(path, dice)
        else:
            shutil.copy(good, path)
            _spoil_data(path, dice)
        mapping = _mapping_for(name, dice)
        inspect_data(path, mapping, read=dice.random() < 0.7)
        if dice.random() < 0.3:
            store = import_data(path, folder / "made", mapping)
        else:
            store = open_data(path, mapping)
        for split in store.splits:
            store.split(split).some(2)
        if dice.random() < 0.3:
            _ = store.statistics

    return door


def _mapping_for(name: str, dice: random.Random) -> DataMapping | None:
    if name == "arrays" and dice.random() < 0.8:
        tree = copy.deepcopy(MAPPING)
        if dice.random() < 0.3:
            tree["time"] = "t"
        if dice.random() < 0.2:
            spoil_tree(tree, dice, times=1)
        return build_config(DataMapping, tree)
    return None


def _spoil_data(path: Path, dice: random.Random) -> None:
    with path.open("rb") as handle:
        is_hdf5 = handle.read(4) == b"\x89HDF"
    if is_hdf5:
        spoil_hdf5(path, dice)
    elif path.suffix == ".npy" and dice.random() < 0.5:
        spoil_npy(path, dice)
    elif path.suffix == ".npz" and dice.random() < 0.4:
        with zipfile.ZipFile(path, "a", compression=zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name twice is meant
            member = path.with_suffix(".npy")
            np.save(member, _numbers(5, 3, 8, 10))
            spoil_npy(member, dice)
            name = dice.choice(("v.npy", "u.npy", "../../escape.npy", "/tmp/escape.npy", "words.txt"))
            archive.writestr(name, member.read_bytes())
            member.unlink()
    else:
        spoil_file(path, dice)


def _spoil_zarr(path: Path, dice: random.Random) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for file in [dice.choice(files) for _ in range(dice.choice((1, 1, 3)))]:
        if not file.exists():
            continue
        way = dice.random()
        if way < 0.1:
            file.unlink()
        elif file.name in ("zarr.json", ".zmetadata", ".zarray", ".zattrs", ".zgroup") and way < 0.7:
            try:
                spoil_json(file, dice)
            except ValueError:  # spoiled already
                spoil_file(file, dice)
        else:
            spoil_file(file, dice)


Door = Callable[[Examples, random.Random, Path], None]
KINDS: dict[str, tuple[float, Door]] = {
    "recipe": (0.18, _recipe),
    "command": (0.14, _command),
    "store": (0.13, _store),
    "rollout": (0.08, _rollout),
    "checkpoint": (0.08, _checkpoint),
    "run": (0.06, _run_folder),
    "model": (0.10, _model),
    "foreign": (0.08, _foreign),
    **{f"format-{name}": (0.046, _format_door(name)) for name in sorted(FORMATS)},
}
"""Share of all inputs, and the door they go through."""


def go_through(kind: str, number: int, seed: int, examples: Examples, folder: Path) -> None:
    """Make input `number` of a kind in an empty folder and go through its door; raises what the library raised."""
    dice = random.Random(f"{seed} {kind} {number}")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        KINDS[kind][1](examples, dice, folder)
