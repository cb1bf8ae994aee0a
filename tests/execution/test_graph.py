from __future__ import annotations

import json
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest

from scifm.errors import ConfigError, RunError
from scifm.execution.graph import Graph, Job, JobsFailedError


def add(*numbers: int, plus: int = 0) -> int:
    return sum(numbers) + plus


def fail() -> None:
    raise RunError("no luck")


def die_once(marker: str) -> str:
    """Kill this process the first time."""
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sums(folder) -> Graph:
    jobs = [
        Job("c", partial(add, plus=100), needs=("a", "b")),
        Job("a", partial(add, plus=1)),
        Job("b", partial(add, plus=10)),
    ]
    return Graph(jobs, folder)


@pytest.mark.parametrize("make", [None, partial(ThreadPoolExecutor, 2)])
def test_results_go_to_those_who_need_them(tmp_path, make):
    order = []
    results = sums(tmp_path).carry_out(make, on_end=lambda job, result: order.append(job.name))
    assert results == {"a": 1, "b": 10, "c": 111}
    assert order[-1] == "c"
    assert json.loads((tmp_path / "c.json").read_text()) == 111


def test_what_is_done_is_not_done_again(tmp_path):
    sums(tmp_path).carry_out()
    (tmp_path / "c.json").unlink()
    (tmp_path / "a.json").write_text("1000")
    begun = []
    results = sums(tmp_path).carry_out(on_start=lambda job: begun.append(job.name))
    assert begun == ["c"]
    assert results["c"] == 1110


def test_the_longest_chain_begins_first(tmp_path):
    jobs = [Job("short", add, cost=5), Job("root", add, cost=1), Job("leaf", add, needs=("root",), cost=9)]
    begun = []
    Graph(jobs, tmp_path).carry_out(on_start=lambda job: begun.append(job.name))
    assert begun == ["root", "leaf", "short"]


def test_impossible_graphs_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="in a circle: a, b"):
        Graph([Job("a", add, needs=("b",)), Job("b", add, needs=("a",)), Job("c", add)], tmp_path)
    with pytest.raises(ConfigError, match="needs 'x', which is not"):
        Graph([Job("a", add, needs=("x",))], tmp_path)
    with pytest.raises(ConfigError, match="Two jobs are called 'a'"):
        Graph([Job("a", add), Job("a", add)], tmp_path)


@pytest.mark.parametrize("make", [None, partial(ThreadPoolExecutor, 2)])
def test_a_failure_stops_only_what_needs_it(tmp_path, make):
    jobs = [Job("bad", fail), Job("behind", add, needs=("bad",)), Job("good", partial(add, plus=2))]
    with pytest.raises(JobsFailedError, match=r"1 of 3 jobs failed and 1 could not begin.*bad: no luck"):
        Graph(jobs, tmp_path).carry_out(make)
    assert Graph(jobs, tmp_path).finished() == {"good": 2}


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"cut')
    with pytest.raises(RunError, match=r"a\.json' cannot be read.*Delete it"):
        sums(tmp_path).carry_out()


def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def test_a_worker_that_dies_is_replaced(tmp_path):
    jobs = [Job("one", partial(die_once, str(tmp_path / "died"))), Job("two", partial(add, plus=2))]
    assert Graph(jobs, tmp_path / "jobs").carry_out(pool) == {"one": "alive", "two": 2}


def test_a_job_that_kills_every_worker_ends_the_study_and_not_before_the_others_are_done(tmp_path):
    jobs = [Job("deadly", die, cost=9), Job("two", partial(add, plus=2))]
    with pytest.raises(JobsFailedError, match="its worker died"):
        Graph(jobs, tmp_path).carry_out(pool)
