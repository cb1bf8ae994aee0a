from __future__ import annotations

import io

from rich.console import Console

from scifm.cli.progress import ProgressBar, StudyTree, progress_bars
from scifm.execution.graph import Job

JOBS = {job.name: job for job in (Job("a@1", min, cost=3, group="first"), Job("a@2", min, cost=1, group="first"))}
RESULT = {"rows": [{"target": "near", "relative_l2": 0.25}]}


def shown(tree: StudyTree) -> str:
    screen = Console(file=io.StringIO(), width=100)
    screen.print(tree._render())
    return screen.file.getvalue()


def test_the_tree_counts_what_is_done_and_names_the_latest():
    tree = StudyTree(Console(file=io.StringIO(), force_terminal=True))
    tree(event="planned", jobs=JOBS, finished={})
    assert "… first: 0 of 2" in shown(tree)
    tree(event="finished", job=JOBS["a@1"], result=RESULT)
    assert "… first: 1 of 2" in shown(tree)
    assert "a 1: near 0.2500" in shown(tree)
    assert "75 %" in shown(tree)  # of the cost, not of the jobs
    tree(event="finished", job=JOBS["a@2"], result=RESULT)
    assert "✓ first: 2 of 2" in shown(tree)


def test_what_an_earlier_sitting_finished_counts():
    tree = StudyTree(Console(file=io.StringIO(), force_terminal=True))
    tree(event="planned", jobs=JOBS, finished={"a@1": RESULT})
    assert "1 of 2" in shown(tree)
    assert "75 %" in shown(tree)


def test_without_a_terminal_every_finished_job_is_a_line():
    out = io.StringIO()
    tree = StudyTree(Console(file=out, width=100))
    tree(event="planned", jobs=JOBS, finished={})
    tree(event="finished", job=JOBS["a@1"], result=RESULT)
    assert out.getvalue() == "a 1: near 0.2500\n"


def test_weights_that_are_kept_are_a_line():
    out = io.StringIO()
    with progress_bars(Console(file=out, width=120)) as progress:
        ProgressBar(progress)(event="kept", step=0, relative_l2=0.25, reason="every learning rate diverged")
    assert "weights are kept (held-out relative L2 0.2500): every learning rate diverged" in out.getvalue()
