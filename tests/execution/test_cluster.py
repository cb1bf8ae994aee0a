"""A study on Dask ends in the same table as one done here, whoever dies on the way, with and without shared files."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import wait
from functools import partial
from pathlib import Path

import pytest

import tiny
from scifm.errors import ConfigError, RunError
from scifm.execution.cluster import cluster_executor
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import Row, read_table

pytest.importorskip("distributed")
RECIPE = StudyRecipe.read(tiny.graph_study(seeds=[0], targets=tiny.graph_study()["targets"][:1], sources=[
    {"name": "poisson", "systems": [{"name": "poisson", "knobs": {"anisotropy": [1, 5]}}]},
]))  # fmt: skip


def strip(row: Row) -> dict:
    return {name: value for name, value in vars(row).items() if name != "seconds"}


def table(folder: Path) -> list[dict]:
    return [strip(row) for row in read_table(folder / "table.parquet")]


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> list[dict]:
    return table(study(RECIPE, out=tmp_path_factory.mktemp("here") / "study"))


@pytest.mark.parametrize(
    "shared", [pytest.param(True, marks=pytest.mark.slow), False], ids=["shared files", "no shared files"]
)
def test_dask_ends_in_the_same_table(here, tmp_path, shared):
    folder = tmp_path / "study"
    make = partial(cluster_executor, "local", num_workers=2, carry=None if shared else folder)
    assert table(study(RECIPE, out=folder, make_executor=make)) == here
    leftovers = list(folder.rglob("*.part"))
    assert leftovers == []


def _die_once(mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def _raise() -> None:
    raise RunError("what a job says")


def _slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_dead_worker_is_replaced_and_an_error_comes_home(tmp_path):
    with cluster_executor("local", num_workers=1) as executor:
        died, failed = executor.submit(_die_once, tmp_path / "mark"), executor.submit(_raise)
        wait([died, failed], timeout=60)
        assert died.result(timeout=0) != os.getpid()
        with pytest.raises(RunError, match="what a job says"):
            failed.result(timeout=0)


def test_leaving_by_an_error_waits_for_nobody():
    started = time.monotonic()

    def leave() -> None:
        with cluster_executor("local", num_workers=1) as executor:
            executor.submit(_slow, 120.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert time.monotonic() - started < 60


def test_wrong_addresses(monkeypatch):
    with pytest.raises(ConfigError, match="no address of a scheduler"):
        cluster_executor("localhost:8786")
    monkeypatch.setattr("scifm.execution.cluster._CONNECT_SECONDS", 1)
    with pytest.raises(RunError, match="No scheduler answers"):
        cluster_executor("tcp://127.0.0.1:9")
