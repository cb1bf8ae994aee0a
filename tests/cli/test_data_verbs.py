from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
import xarray

from scifm.data.store import Store

COUNT, FRAMES, NY, NX = 6, 4, 16, 24


def waves() -> np.ndarray:
    x, y, t = np.arange(NX) / NX, np.linspace(0, 1, NY)[:, None], np.arange(FRAMES)[:, None, None]
    fields = [np.sin(2 * np.pi * (x - 0.1 * t) + i) * np.cos(np.pi * y) + np.cos(3 * y) for i in range(COUNT)]
    return np.stack(fields).astype(np.float32)


@pytest.fixture
def file(tmp_path) -> Path:
    coordinates = {"t": np.arange(FRAMES) * 0.5, "x": np.arange(NX) / NX, "y": np.linspace(0, 1, NY)}
    np.savez(tmp_path / "data.npz", u=waves(), D=np.arange(COUNT) + 1.0, **coordinates)
    return tmp_path / "data.npz"


def test_from_a_file_to_a_store(scifm, file, tmp_path):
    """The path of docs/guides/your-own-data.md: inspect, write the map, import with it."""
    said = scifm("inspect", file, "--write-map", tmp_path / "map.toml")
    assert said.status == 0, said.err
    assert "24 points over 1, periodic" in said.out
    assert "4 train, 1 valid, 1 test" in said.out
    assert f"scifm import {file} --out STORE" in said.out
    assert tomllib.loads((tmp_path / "map.toml").read_text())["fields"]["u"]["role"] == "state"
    said = scifm("import", file, "--out", tmp_path / "store", "--map", tmp_path / "map.toml", "--set", "every=3")
    assert said.status == 0, said.err
    assert "2, times 0 to 1.5" in said.out
    assert Store.open(tmp_path / "store").card.times == (0.0, 1.5)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_nothing_is_cut_off_in_a_terminal(scifm, file, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    (tmp_path / "many").mkdir()
    held = dict(np.load(file))
    held["concentration"], held["diffusivity"] = held.pop("u"), held.pop("D")
    for split in ("train", "test"):
        np.savez(tmp_path / "many" / f"{split}.npz", **held)
    said = scifm("inspect", tmp_path / "many")
    assert said.status == 0, said.err
    assert "…" not in said.out
    table = [line for line in said.out.splitlines() if line[:1] in ("│", "┃", "┏", "┡", "└")]
    assert len(table) > 10
    assert max(map(len, table)) <= int(columns)
    for word in ("concentration", "trajectory=6,", "float32", "diffusivity"):
        assert sum(word in line for line in table) == 2, word


def test_json_is_json(scifm, file, tmp_path):
    found = json.loads(scifm("inspect", file, "--json").out)
    assert found["outcome"]["splits"] == {"train": 4, "valid": 1, "test": 1}
    assert tomllib.loads(found["mapping"])["format"] == "arrays"
    made = json.loads(scifm("import", file, "--out", tmp_path / "store", "--json").out)
    assert made["splits"] == {"train": 4, "valid": 1, "test": 1}
    assert json.loads(scifm("inspect", tmp_path / "store", "--json").out)["kind"] == "store"


def test_quick_reads_no_ranges(scifm, file):
    said = scifm("inspect", file, "--quick")
    assert "mean" not in said.out
    assert "periodic" in said.out


def test_mistakes_are_one_line(scifm, file, tmp_path):
    np.save(tmp_path / "plain.npy", waves()[:, 0])
    (tmp_path / "broken.npz").write_bytes(file.read_bytes()[:3000])
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "mine.toml").write_text("# mine")
    out = ("--out", tmp_path / "store")
    mistakes = {
        "There is nothing at": ("inspect", tmp_path / "none"),
        "no format that can be imported": ("inspect", tmp_path / "text.txt"),
        "truncated": ("import", tmp_path / "broken.npz", *out),
        "which axis of 'plain'": ("import", tmp_path / "plain.npy", *out),
        "No mapping at": ("import", file, *out, "--map", tmp_path / "none.toml"),
        "'mine.toml": ("import", file, *out, "--map", tmp_path / "mine.toml"),
        "is not overwritten": ("inspect", file, "--write-map", tmp_path / "mine.toml"),
        "Cannot write the mapping": ("inspect", file, "--write-map", tmp_path / "no" / "map.toml"),
        "Did you mean 'every'": ("import", file, *out, "--set", "evry=2"),
    }
    for told, words in mistakes.items():
        said = scifm(*words)
        assert said.status == 2, (words, said)
        assert told.strip("'") in said.told
    assert (tmp_path / "mine.toml").read_text() == "# mine"
    assert not (tmp_path / "store").exists()
    assert scifm("import", file, *out).status == 0
    said = scifm("import", file, *out, "--set", "every=2")
    assert said.status == 2
    assert "mapping is {'every': 1} there and {'every': 2} here" in said.told


def test_numbers_that_are_not_finite_name_field_and_sample(scifm, file, tmp_path):
    broken = waves()
    broken[:, 0, 0, 0] = np.nan
    np.savez(tmp_path / "bad.npz", **{**np.load(file), "u": broken})
    said = scifm("import", tmp_path / "bad.npz", "--out", tmp_path / "store")
    assert said.status == 2
    assert "'u' holds NaN" in said.told
    said = scifm("inspect", tmp_path / "bad.npz")
    assert said.status == 0
    assert "6 NaN" in " ".join(said.out.split())


def test_interrupted_it_goes_on(file, tmp_path):
    """Ctrl-C in a process of its own, slow enough to be met; the second call finishes the store."""
    slow = (
        "import sys, time; import scifm.data.importing as work; work._CHUNK_BYTES = 1\n"
        "fill = work._fill\n"
        "def wait(*words): fill(*words); print('file', flush=True); time.sleep(0.4)\n"
        "work._fill = wait\n"
        "from scifm.cli import main; sys.argv[0] = 'scifm'; main()\n"
    )
    command = [sys.executable, "-c", slow, "import", str(file), "--out", str(tmp_path / "store")]
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert first.stdout is not None
    assert first.stdout.readline() == "file\n"
    assert first.stdout.readline() == "file\n"
    time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    told = first.communicate(timeout=60)[1]
    assert first.returncode == 130, told
    assert "give the same command again" in told
    finished = list((tmp_path / "store" / "data").rglob("*.hdf5"))
    assert 1 <= len(finished) < COUNT
    before = {path: path.stat().st_mtime_ns for path in finished}
    second = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("file\n") == COUNT - len(finished)
    assert before == {path: path.stat().st_mtime_ns for path in finished}
    assert Store.open(tmp_path / "store").splits == {"train": 4, "valid": 1, "test": 1}


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "your-own-data.md"


def test_the_guide_can_be_followed(scifm, tmp_path, monkeypatch):
    """Every block of the page in its order: what is Python runs, what is a map is written over the drafted one."""
    monkeypatch.chdir(tmp_path)
    days = pandas.date_range("2021-01-01", periods=200, freq="D").delete([37, 38, 101])
    warmth = np.random.default_rng(0).standard_normal((len(days), 4, 6)).astype(np.float32)
    places = {"time": days, "lat": np.arange(4.0), "lon": np.arange(6.0)}
    xarray.Dataset({"sst": (tuple(places), warmth)}, coords=places).to_netcdf("sst.nc")
    commands = 0
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if kind == "python":
            exec(compile(text, GUIDE.name, "exec"), {"__name__": "guide"})
        elif kind == "toml":
            Path("map.toml").write_text(text)
        for line in text.splitlines() if not kind else ():
            said = scifm(*shlex.split(line)[1:])
            assert said.status == 0, (line, said.err)
            assert "Missing" not in said.out, line
            commands += 1
    assert commands == 5
    store = Store.open("stores/waves")
    assert store.splits == {"train": 6, "valid": 1, "test": 1}
    assert store.card.equation == "u_t + speed u_x = 0"
    said = scifm("import", "pieces", "--out", "stores/pieces", "--set", "gaps=mask")
    assert said.status == 0, said.err
    pieces = Store.open("stores/pieces")
    assert (pieces.splits, len(pieces.card.times)) == ({"train": 6, "valid": 1, "test": 1}, 20)
    missing = sum(int(pieces.to_xarray(split)["sst"].isnull().sum()) for split in pieces.splits)
    assert missing == 3 * 4 * 6  # days 37 and 38, and 101: all lie in pieces


def test_a_refusal_is_one_line_and_nothing_else(scifm, file, tmp_path):
    cut = tmp_path / "cut.npz"
    cut.write_bytes(file.read_bytes()[:100])
    for command in (["inspect", cut], ["import", cut, "--out", tmp_path / "store"], ["inspect", tmp_path / "missing"]):
        said = scifm(*command)
        assert (said.status, said.out) == (2, "")
        assert said.err.startswith("scifm: ")
        assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", ["u", "t0_fields/density", "a_name_that_is_longer_than_all_that_is_usual"])
def test_no_word_of_a_table_is_broken_without_need(scifm, tmp_path, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    values = np.random.default_rng(0).standard_normal((5, 3, 8, 10))
    with h5py.File(tmp_path / "a.h5", "w") as held:
        held[name], held["t"], held["x"], held["y"] = values, np.arange(3.0), np.arange(10.0), np.arange(8.0)
    said = scifm("inspect", tmp_path / "a.h5")
    assert said.status == 0, said.err
    table = [line for line in said.out.splitlines() if line[:1] in ("│", "┃", "┏", "┡", "└")]
    assert max(map(len, table)) <= 80
    if len(name) <= 20:
        assert any(f"│ {name} " in line for line in table)
        assert any("trajectory=5," in line for line in table)


def test_a_store_is_compared_with_its_card(scifm, file, tmp_path):
    assert scifm("import", file, "--out", tmp_path / "store").status == 0
    said = scifm("verify", tmp_path / "store", "--json")
    assert (said.status, json.loads(said.out)["content"]) == (0, Store.open(tmp_path / "store").content)
    assert "is whole" in scifm("verify", tmp_path / "store").out
    data = next((tmp_path / "store").rglob("*.hdf5"))
    content = bytearray(data.read_bytes())
    content[-9] ^= 1
    data.write_bytes(content)
    said = scifm("verify", tmp_path / "store")
    assert (said.status, said.out) == (2, "")
    assert data.name in said.err
