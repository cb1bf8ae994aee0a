"""The command line: what a user types, reads and gets back. In one process where possible; a start costs seconds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pyarrow.parquet as pq
import pytest

import tiny
from calls import Said
from scifm.config import dump_toml
from scifm.runs import Run

TINY_TUNING = ("--num-samples", "8", "--set", "training.num_steps=3", "--set", "learning_rates=[1e-3]")


@pytest.mark.parametrize("columns", ["60", "80"])
def test_tables_cut_off_no_name_that_is_typed_again(scifm, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    said = scifm("systems")
    assert said.status == 0
    assert "…" not in said.out


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    file.write_text(dump_toml(tiny.RECIPE))
    return file


@pytest.fixture(scope="module")
def study_recipe(tmp_path_factory) -> Path:
    """One source, one task, one seed."""
    file = tmp_path_factory.mktemp("recipes") / "study.toml"
    tree = {key: value for key, value in tiny.graph_study(seeds=[0]).items() if key != "scaling"}
    file.write_text(dump_toml(tree | {"sources": tree["sources"][:1], "targets": tree["targets"][1:]}))
    return file


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    return tiny.finished_run(tmp_path_factory.mktemp("parents")).path


@pytest.fixture(scope="module")
def made_stores(tmp_path_factory) -> dict[str, Path]:
    from scifm.data.generate import generate
    from scifm.systems import SYSTEMS

    root = tmp_path_factory.mktemp("stores")
    counts = {"train": 10, "valid": 4, "test": 4}
    return {
        name: generate(SYSTEMS[name](), num_samples=counts, num_points=16, path=root / name).path
        for name in ("poisson", "helmholtz")
    }


@pytest.fixture
def stores(made_stores, tmp_path) -> dict[str, Path]:
    """Copies that a test may damage."""
    return {name: Path(shutil.copytree(path, tmp_path / "stores" / name)) for name, path in made_stores.items()}


@pytest.fixture(scope="module")
def store_recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipes") / "store.toml"
    tree = {k: v for k, v in tiny.recipe(data={"num_validation_samples": 4}).items() if k != "system"}
    file.write_text(dump_toml(tree))
    return file


# --- the happy path, verb by verb -------------------------------------------------------------------------------------


def test_help_names_every_verb(scifm):
    said = scifm("--help")
    assert said.status == 0
    for verb in ("generate", "pretrain", "finetune", "evaluate", "scores", "report", "study", "demo", "systems"):
        assert verb in said.out
        told = scifm(verb, "--help")
        assert told.status == 0
        assert "--help" in told.out


def test_systems(scifm):
    table = scifm("systems")
    assert table.status == 0
    for word in ("poisson", "helmholtz", "anisotropy"):
        assert word in table.out
    told = json.loads(scifm("systems", "--json").out)
    assert told["poisson"]["knobs"]["anisotropy"]["high"] == 5
    assert (
        "d(velocity)/dt = - advection(velocity, velocity) - dispersion derivative_xxx(velocity)"
        in scifm("systems", "kdv").out
    )
    assert json.loads(scifm("systems", "kdv", "--json").out)["terms"][1]["coefficient"] == "dispersion"
    assert "none declared" in scifm("systems", "euler").out
    refused = scifm("systems", "kvd")
    assert refused.status != 0
    assert "Did you mean 'kdv'" in refused.err


def test_generate(scifm, tmp_path):
    words = ("generate", "poisson", "--num-samples", 8, "--num-points", 16, "--knob", "anisotropy=5,10")
    told = json.loads(scifm(*words, "--out", tmp_path / "store", "--json").out)
    assert told["splits"] == {"train": 8, "valid": 1, "test": 1}
    assert told["knobs"]["anisotropy"]["low"] == 5
    table = scifm(*words, "--out", tmp_path / "store")
    assert table.status == 0
    assert "16 × 16" in table.out
    assert "8 train" in table.out


def test_pretrain_from_a_recipe_with_overrides(scifm, recipe, tmp_path):
    words = ("pretrain", recipe, "--out", tmp_path, "--set", "training.num_steps=4", "--set", "name=short")
    said = scifm(*words, "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    run = Run.open(told["run"])
    assert run.path.name.startswith("short-")
    assert run.config["training"]["num_steps"] == 4
    assert told["validation_relative_l2"] > 0
    assert run.read_json("environment.json")["command"].startswith("scifm pretrain")
    again = scifm(*words)
    assert again.status == 0
    assert "validation relative l2" in again.out


def test_pretrain_on_a_store(scifm, store_recipe, stores, tmp_path):
    said = scifm("pretrain", store_recipe, "--store", stores["poisson"], "--out", tmp_path / "runs", "--json")
    assert said.status == 0, said.err
    assert Run.open(json.loads(said.out)["run"]).config["data"]["store"] == str(stores["poisson"])


@pytest.mark.parametrize("scratch", [False, True])
def test_finetune(scifm, parent, tmp_path, scratch):
    words = ["finetune", parent, "--system", "poisson", "--knob", "anisotropy=5,10", *TINY_TUNING, "--out", tmp_path]
    words += ["--from-scratch"] if scratch else []
    said = scifm(*words, "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert told["num_trials"] == 1
    assert told["learning_rate"] == 1e-3
    assert Path(told["run"]).name.startswith("from_scratch-8" if scratch else "finetune-8")
    assert Run.open(told["run"]).is_complete
    assert scifm(*words).status == 0


def test_finetune_says_when_nothing_was_trained(scifm, parent, tmp_path):
    words = ["finetune", parent, "--system", "poisson", "--num-samples", "8", "--set", "training.num_steps=3"]
    words += ["--set", "learning_rates=[10, 20]"]
    told = json.loads(scifm(*words, "--out", tmp_path, "--json").out)
    assert (told["learning_rate"], told["num_trials"], told["num_steps"]) == (0, 5, 0)
    said = scifm(*words, "--out", tmp_path / "again")
    assert said.status == 0, said.err
    assert "the pre-trained weights: nothing did clearly better" in " ".join(said.out.split())
    assert scifm("report", told["run"]).status == 0
    assert "Nothing was trained." in (Path(told["run"]) / "report.html").read_text()


def test_finetune_by_a_method(scifm, parent, tmp_path):
    words = ["finetune", parent, "--system", "poisson", *TINY_TUNING, "--out", tmp_path]
    said = scifm(*words, "--set", "method.method=low_rank", "--set", "method.rank=2", "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert Run.open(told["run"]).config["method"] == {"method": "low_rank", "rank": 2, "l2_sp": 0.0}
    assert 0 < told["gradient_bytes"] == 4 * told["num_trainable"] < told["optimizer_bytes"]
    said = scifm(*words, "--set", "method.method=low_rank", "--set", "method.rank=2")
    assert f"num trainable    {told['num_trainable']}" in said.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "method.method=low_rnk"), "'low_rnk' is unknown. Did you mean 'low_rank'?"),
        (("--set", "method.method=low_rank", "--set", "method.rank=0"), "greater than or equal to 1"),
        (("--set", "method.method=low_rank", "--set", "method.rank=1000"), "got 1000. Give a rank within"),
        (("--set", "method.rank=2"), "rank belongs to method 'low_rank', not to 'all'"),
        (("--from-scratch", "--set", "method.method=affine"), "--from-scratch trains all weights"),
    ],
)
def test_a_wrong_method_is_one_line(scifm, parent, tmp_path, words, told):
    said = scifm("finetune", parent, "--system", "poisson", *TINY_TUNING, "--out", tmp_path, *words)
    assert said.status == 2
    assert told in said.told


def test_finetune_on_a_store(scifm, parent, stores, tmp_path):
    said = scifm("finetune", parent, "--store", stores["poisson"], *TINY_TUNING, "--out", tmp_path / "runs", "--json")
    assert said.status == 0, said.err


def test_evaluate(scifm, parent, stores):
    said = scifm("evaluate", parent, "--store", stores["poisson"], "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert told["num_samples"] == 4
    assert Path(told["file"]).parent == parent / "scores"
    assert told["origin"]["store"] == str(stores["poisson"])
    written = pq.read_table(told["file"])["relative_l2"].to_pylist()
    assert told["relative_l2"]["mean"] == pytest.approx(sum(written) / 4)
    table = scifm("evaluate", parent, "--system", "poisson", "--num-samples", 1, "--set", "num_points=16")
    assert "1 sample\n" in re.sub(r" +\n", "\n", table.out)
    assert "relative_l2" in table.out
    assert "system poisson, anisotropy 1 to 5, angle 0 to 6.28319, seed 0, 16 × 16 points" in table.out


def test_report_of_a_run(scifm, recipe, tmp_path):
    run = json.loads(scifm("pretrain", recipe, "--out", tmp_path, "--json").out)["run"]
    said = scifm("report", run)
    assert said.status == 0, said.err
    assert said.out.strip() == str(Path(run) / "report.html")
    assert "<html" in (Path(run) / "report.html").read_text()
    assert scifm("report", run, "--out", tmp_path / "page.html").out.strip() == str(tmp_path / "page.html")


def test_a_study_of_one_task_prints_its_errors(scifm, study_recipe, tmp_path):
    out = tmp_path / "study"
    said = scifm("study", study_recipe, "--out", out, "--workers", 1, "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert Path(told["page"]).is_file()
    errors = {curve["kind"]: curve["points"][0]["median"] for curve in told["curves"]}
    assert set(errors) == {"in_distribution", "zero_shot", "few_shot", "from_scratch"}
    assert told["seconds"] > 0
    assert told["verdict"][0]["said"]
    table = scifm("study", study_recipe, "--out", out, "--workers", 1)
    assert table.status == 0
    for words in ("0 (zero-shot)", "times lower", *(f"{error:.4f}" for error in errors.values())):
        assert words in table.out
    assert f"{errors['from_scratch'] / errors['few_shot']:.1f}" in table.out


@pytest.mark.parametrize(("which", "size"), [("steady", "small"), ("evolving", "w24")])
def test_demo_at_toy_size(scifm, tmp_path, which, size):
    """The demo is a study; overrides bring it down to seconds."""
    small = {
        "training": "{num_steps = 2}",
        "data": "{num_points = 16, num_validation_samples = 2, num_normalization_samples = 4}",
        f"models.{size}.network": "{width = 4, modes = 3, latent_points = 8}",
        "adapt.training": "{num_steps = 2, batch_size = 4}",
        "few_shot": "[4]", "from_scratch": "[4]", "seeds": "[0]", "pool_size": 4, "num_test_samples": 4,
    }  # fmt: skip
    words = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    said = scifm("demo", which, "--out", tmp_path / "demo", "--workers", 1, "--json", *words)
    assert said.status == 0, said.err
    for name in ("analysis.json", "table.parquet", *(["examples.npz"] if which == "steady" else [])):
        assert (tmp_path / "demo" / name).is_file()
    assert json.loads(said.out)["page"] == str(tmp_path / "demo" / "report.html")
    refused(scifm("demo", "evolvin"), "Demo 'evolvin' is unknown. Did you mean 'evolving'?")


def test_the_verb_that_went_says_which_to_give(scifm, study_recipe, tmp_path):
    old = tmp_path / "old.toml"
    old.write_text("[pretrain]\n[downstream]\nname = 'poisson'\n")
    refused(scifm("transfer", study_recipe, "--out", tmp_path / "out", "--workers", 1), "'scifm study' does the same")
    refused(scifm("study", old), "not used any more", "[downstream] becomes one of [[targets]]")


# --- bad input: one clear line, exit status 2, nothing lost -----------------------------------------------------------


def refused(said: Said, *words: str) -> None:
    told = said.told
    assert said.status == 2
    for word in words:
        assert word in told, told


def test_an_unknown_key_names_the_nearest(scifm, recipe, tmp_path):
    said = scifm("pretrain", recipe, "--out", tmp_path, "--set", "training.learning_rat=1e-3")
    refused(said, "'learning_rat' is unknown", "Did you mean 'learning_rate'", str(recipe))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["generate", "finetune", "evaluate"])
def test_knobs_out_of_order(scifm, parent, verb, tmp_path):
    words = {"generate": ["poisson"], "finetune": [parent, "--system", "poisson"]}
    words["evaluate"] = words["finetune"]
    out = [] if verb == "evaluate" else ["--out", tmp_path / "out"]
    refused(scifm(verb, *words[verb], "--knob", "anisotropy=10,5", *out), "low=10, high=5", "Swap them")


def test_knobs_out_of_order_in_a_recipe(scifm, recipe, tmp_path):
    said = scifm("pretrain", recipe, "--out", tmp_path, "--set", "system.knobs.anisotropy=[5, 1]")
    refused(said, "low=5, high=1", "Swap them")


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ("anisotropy", "not of the form NAME=LOW,HIGH"),
        ("anisotropy=", "not of the form NAME=LOW,HIGH"),
        ("anisotropy=1,2,3", "not of the form NAME=LOW,HIGH"),
        ("anisotropy=1,b", "not of the form NAME=LOW,HIGH"),
        ("anisotropie=1,2", "Did you mean 'anisotropy'"),
        ("anisotropy=nan,2", "finite"),
    ],
)
def test_knobs_that_cannot_be_read(scifm, knob, words, tmp_path):
    refused(scifm("generate", "poisson", "--knob", knob, "--out", tmp_path / "s"), words)


def test_an_unknown_system(scifm, tmp_path):
    refused(scifm("generate", "poison", "--out", tmp_path / "s"), "Did you mean 'poisson'")


def test_a_store_of_another_signature_is_refused_without_an_example(scifm, parent, stores):
    before = (parent / "model" / "model.safetensors").read_bytes()
    refused(scifm("evaluate", parent, "--store", stores["helmholtz"]), "wavenumber_shift", "fine-tune", "--set rename")
    assert (parent / "model" / "model.safetensors").read_bytes() == before


def test_a_store_of_another_signature_gives_new_channels(scifm, parent, stores, tmp_path):
    words = ("finetune", parent, "--store", stores["helmholtz"], *TINY_TUNING, "--out", tmp_path / "runs")
    table = scifm(*words).out
    for told in ("wavenumber_shift", "added", "diffusion_xx", "dropped", "reused"):
        assert told in table
    rows = json.loads(scifm(*words, "--json").out)["channels"]
    assert {"role": "input", "name": "forcing", "became": "reused"} in rows


def test_renaming_on_the_command_line(scifm, parent, stores):
    refused(scifm("evaluate", parent, "--store", stores["poisson"], "--set", "rename=source"), "rename.NAME")
    refused(
        scifm("evaluate", parent, "--store", stores["poisson"], "--set", "rename.a=forcin"), "Did you mean 'forcing'"
    )


def data_file(store: Path, split: str) -> Path:
    return next((store / "data" / split).glob("*.hdf5"))


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "evaluate"])
def test_a_truncated_file(scifm, parent, store_recipe, stores, verb, tmp_path):
    file = data_file(stores["poisson"], "test" if verb == "evaluate" else "train")
    file.write_bytes(file.read_bytes()[:-4000])
    words = {"pretrain": [store_recipe], "finetune": [parent, *TINY_TUNING], "evaluate": [parent]}[verb]
    out = [] if verb == "evaluate" else ["--out", tmp_path / "runs"]
    refused(scifm(verb, *words, "--store", stores["poisson"], *out), file.name)


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "evaluate"])
def test_nan_in_a_store(scifm, parent, store_recipe, stores, verb, tmp_path):
    file = data_file(stores["poisson"], "test" if verb == "evaluate" else "train")
    with h5py.File(file, "r+") as handle:
        handle["t0_fields"]["solution"][2, 1, 3, 4] = float("nan")  # frame 0 is the blank one before the solution
    all_of_them = [parent, *TINY_TUNING, "--num-samples", 10]
    words = {"pretrain": [store_recipe], "finetune": all_of_them, "evaluate": [parent]}[verb]
    out = [] if verb == "evaluate" else ["--out", tmp_path / "runs"]
    refused(scifm(verb, *words, "--store", stores["poisson"], *out), file.name, "solution", "sample 2")


def test_too_few_samples_to_split(scifm, parent, stores, tmp_path):
    words = ("finetune", parent, "--store", stores["poisson"], "--out", tmp_path / "runs")
    refused(scifm(*words, "--num-samples", 0), "num_samples", "greater than or equal to 1")
    refused(scifm(*words, "--num-samples", 11), "11 samples", "there are 10")


def test_no_samples_at_all(scifm, parent, tmp_path):
    refused(scifm("generate", "poisson", "--num-samples", 0, "--out", tmp_path / "s"), "at least 1 training sample")
    refused(scifm("evaluate", parent, "--system", "poisson", "--num-samples", 0), "greater than or equal to 1")


def test_a_run_folder_in_use(scifm, recipe, tmp_path):
    from scifm.training.pretrain import pretrain

    with pretrain(recipe, out=tmp_path).locked():
        refused(scifm("pretrain", recipe, "--out", tmp_path), "in use by another process", f"process {os.getpid()}")


@pytest.mark.parametrize("verb", ["generate", "pretrain", "finetune", "evaluate", "report", "study"])
def test_a_folder_that_cannot_be_written(scifm, recipe, study_recipe, parent, verb, tmp_path):
    """Root may write everywhere, so the way is blocked by a file."""
    wall = tmp_path / "wall"
    wall.write_text("mine")
    blocked = wall / "runs"
    words = {
        "generate": ["poisson", "--num-samples", 4, "--num-points", 16, "--out", blocked],
        "pretrain": [recipe, "--out", blocked],
        "finetune": [parent, "--system", "poisson", *TINY_TUNING, "--out", blocked],
        "evaluate": [blocked, "--system", "poisson"],
        "report": [parent, "--out", blocked / "page.html"],
        "study": [study_recipe, "--workers", 1, "--out", blocked],
    }
    refused(scifm(verb, *words[verb]), str(wall))
    assert wall.read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of its own that can be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("room", [0, 8, 36])
@pytest.mark.parametrize("verb", ["generate", "pretrain", "finetune", "study"])
def test_a_full_disk(scifm, recipe, study_recipe, parent, verb, room, small_disk):
    """With this many kB left, a run fails at its first file, at its first weights, or somewhere between."""
    words = {
        "generate": ["poisson", "--num-samples", 4096, "--num-points", 64, "--out", small_disk / "store"],
        "pretrain": [recipe, "--out", small_disk],
        "finetune": [parent, "--system", "poisson", *TINY_TUNING, "--out", small_disk],
        "study": [study_recipe, "--workers", 1, "--out", small_disk / "study"],
    }
    (small_disk / "mine").write_text("precious")
    left = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(left.f_bavail * left.f_frsize - room * 1024))
    said = scifm(verb, *words[verb])
    refused(said, str(small_disk))
    assert "space" in said.told.lower()
    assert (small_disk / "mine").read_text() == "precious"
    assert not list(small_disk.rglob("*.part"))
    (small_disk / "filler").unlink()
    if verb in ("pretrain", "finetune"):  # the others need more than this whole disk
        assert scifm(verb, *words[verb]).status == 0, "freed, the same command goes on"


def test_what_is_no_run(scifm, tmp_path):
    for verb in ("finetune", "evaluate"):
        refused(scifm(verb, tmp_path, "--system", "poisson"), "is not a run folder")
    refused(scifm("report", tmp_path), str(tmp_path))
    refused(scifm("pretrain", tmp_path / "none.toml"), "No recipe at")
    refused(scifm("evaluate", tmp_path / "none", "--store", tmp_path / "none"), str(tmp_path / "none"))


def test_exactly_one_source_of_samples(scifm, parent, stores):
    refused(scifm("finetune", parent), "--system")
    for verb in ("finetune", "evaluate"):
        refused(scifm(verb, parent, "--system", "poisson", "--store", stores["poisson"]), "either")


@pytest.mark.parametrize("verb", ["rollout", "pretrain", "report", "evaluate", "inspect", "scores", "verify"])
def test_a_name_too_long_for_any_file_is_told(scifm, verb):
    """Python's own ``exists`` raises there: found by the fuzzer with a new seed."""
    said = scifm(verb, "a" * 400)
    assert said.status == 2
    assert "aaaa" in said.told


def test_a_grid_too_coarse_for_the_operator(scifm, tmp_path, recipe):
    said = scifm("pretrain", recipe, "--out", tmp_path, "--set", "data.num_points=1")
    refused(said, "at least 2 points")


@pytest.mark.parametrize(
    "words", [["pretrian"], ["pretrain"], ["generate", "poisson", "--num-samples", "many"], ["--no"]]
)
def test_words_the_parser_does_not_know(scifm, words):
    said = scifm(*words)
    assert said.status == 2
    assert "Traceback" not in said.err
    assert "Usage" in said.err


# --- interruption -----------------------------------------------------------------------------------------------------


def stopped(
    words: list[str], started: Callable[[], bool], *numbers: signal.Signals, before: str = ""
) -> tuple[int, str]:
    """Send signals to a real process once its work began; return exit status and what it said.

    A shell runs `before` first.
    """
    command = ["sh", "-c", f'{before} exec "$@"', "sh", sys.executable, "-m", "scifm", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not started():
            time.sleep(0.01)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.3)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in err
    return process.returncode, err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_says_so_and_the_status_tells_which(recipe, tmp_path, number, status):
    out = tmp_path / "runs"
    many = ["--set", "training.num_steps=100000", "--set", "training.validate_every=100000"]

    def started() -> bool:
        log = next(out.glob("*/metrics.jsonl"), None)
        return log is not None and log.stat().st_size > 400

    returned, err = stopped(["pretrain", str(recipe), "--out", str(out), *many], started, number)
    assert returned == status, err
    by = " by SIGTERM" if number == signal.SIGTERM else ""
    assert f"scifm: interrupted{by}; give the same command again to go on." in err
    (folder,) = out.iterdir()
    assert Run.open(folder).status.startswith(f"interrupted: {number.name if by else 'run'}")
    states = sorted((folder / "state").iterdir())
    last = Run.open(folder).metrics()[-1]["step"]
    assert 0 <= int(states[-1].stem.removeprefix("step-")) - last < 2, "saved at the step it was stopped at"


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_was_ignored_when_it_was_started_stays_so(recipe, tmp_path, devices):
    """As a script has it that puts the command in the background: Ctrl-C is for others, SIGTERM for this."""
    out = tmp_path / "runs"
    many = ["--set", "training.num_steps=100000", "--set", "training.validate_every=100000", "--devices", str(devices)]

    def started() -> bool:
        log = next(out.glob("*/metrics.jsonl"), None)
        return log is not None and log.stat().st_size > 400

    words = ["pretrain", str(recipe), "--out", str(out), *many]
    returned, err = stopped(words, started, signal.SIGINT, signal.SIGTERM, before="trap '' INT;")
    assert returned == 75, err
    assert "scifm: interrupted by SIGTERM; give the same command again to go on." in err
    assert Run.open(next(out.iterdir())).status.startswith("interrupted: SIGTERM")


def test_a_scheduler_stops_sampling_and_the_same_command_finishes_it(scifm, tmp_path):
    store = tmp_path / "store"
    words = ["generate", "poisson", "--out", str(store), "--num-samples", "30000", "--num-points", "16"]
    returned, err = stopped(words, lambda: any(store.glob("data/train/*.hdf5")), signal.SIGUSR1)
    assert returned == 75, err
    assert "interrupted by SIGUSR1; give the same command again" in err
    assert scifm(*words).status == 0
