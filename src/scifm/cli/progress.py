"""What long work shows while it runs: a bar a stage, or the tree of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from rich.tree import Tree

from scifm.wording import plural

__all__ = ["ProgressBar", "StudyTree", "counting", "progress_bars"]


class ProgressBar:
    """Shows events of training as one bar a stage."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: Any = None

    def begin(self, name: str, num_steps: int) -> None:
        """Start a bar, ending the one before."""
        self.end()
        self.task = self.progress.add_task(name, total=num_steps, note="")

    def end(self) -> None:
        """Fill the bar, if there is one."""
        if self.task is not None:
            task = self.progress.tasks[self.progress.task_ids.index(self.task)]
            self.progress.update(self.task, completed=task.total)
            self.task = None

    def __call__(self, **event: Any) -> None:
        kind = event["event"]
        if kind == "stage":
            self.begin(f"{event['stage']}/{event['num_stages']} {event['name']}", event["num_steps"])
        elif kind == "step" and self.task is not None:
            self.progress.advance(self.task)
        elif kind == "resumed" and self.task is not None and event["step"]:
            self.progress.advance(self.task, event["step"])
            self.progress.console.print(f"resuming at step {event['step']}")
        elif kind == "damaged":
            self.progress.console.print(
                f"the saved state {event['file']} is damaged ({event['reason']}); going on from step {event['step']}"
            )
        elif kind == "logger_failed":
            self.progress.console.print(
                f"step {event['step']}: the logger '{event['logger']}' failed ({event['reason']}) and is told nothing "
                "more; training goes on, and metrics.jsonl is complete",
                markup=False,
            )
        elif kind == "spike":
            jump = f"the loss jumped to {event['loss']:.3g}, {event['times_median']:.1f} times its median"
            self.progress.console.print(f"step {event['step']}: {jump}")
        elif kind == "train" and self.task is not None:
            self.progress.update(self.task, note=f"loss {event['loss']:.3g}")
        elif kind == "valid":
            own = [f"{key.partition('/')[2]} {event[key]:.4f}" for key in event if key.startswith("relative_l2/")]
            each = f" ({', '.join(own)})" if own else ""
            self.progress.console.print(
                f"step {event['step']}: validation relative L2 {event['relative_l2']:.4f}{each}", highlight=False
            )
        elif kind == "kept":
            by = next(name for name in event if name not in ("event", "step", "reason"))
            what = "held-out relative L2" if by == "relative_l2" else by
            score = f"{what} {event[by]:.4f}"
            self.progress.console.print(f"the pre-trained weights are kept ({score}): {event['reason']}")
        elif kind == "scored":
            count, name = event["num_samples"], event["kind"].replace("_", " ")
            samples = f" on {plural(count, 'sample')}, seed {event['seed']}" if count else ""
            self.progress.console.print(f"{name}{samples}: relative L2 {event['relative_l2']:.4f}")


class _Bars(Progress):
    """Bars that leave nothing behind, not even an empty line in a log, where nothing was begun."""

    def stop(self) -> None:
        if self.tasks:
            super().stop()
        else:
            self.live.stop()


def progress_bars(console: Console) -> Progress:
    """Return bars with counts and times, to be entered."""
    counts = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    name, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    return _Bars(name, BarColumn(), *counts, note, console=console)


def counting(progress: Progress, name: str) -> Callable[[int, int], None]:
    """Return what moves a bar, made when something is done: a refusal before that stands alone."""
    tasks: list[TaskID] = []

    def move(done: int, total: int) -> None:
        if not tasks:
            tasks.append(progress.add_task(name, total=total, note=""))
        progress.update(tasks[0], completed=done)

    return move


class StudyTree:
    """Shows a study: a branch for each group of jobs, and one bar for all, in units of their cost.

    Where nobody looks at a terminal, every finished job is a line instead.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress("  all", BarColumn(), "{task.percentage:.0f} %", *times, console=console)
        self.task = self.bar.add_task("all", total=None)
        self.totals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.latest: dict[str, str] = {}
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> StudyTree:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, **event: Any) -> None:
        if event["event"] == "planned":
            jobs = event["jobs"].values()
            self.totals = Counter(job.group for job in jobs)
            finished = [event["jobs"][name] for name in event["finished"]]
            self.done = Counter(job.group for job in finished)
            self.bar.update(self.task, total=_cost(jobs), completed=_cost(finished))
        elif event["event"] == "concluding":
            self.console.print("all runs are done; comparing them", highlight=False)
        elif event["event"] == "finished":
            job = event["job"]
            self.done[job.group] += 1
            self.bar.advance(self.task, job.cost)
            errors = ", ".join(f"{row['target']} {row['relative_l2']:.4f}" for row in event["result"]["rows"])
            self.latest[job.group] = f"{job.name.replace('@', ' ')}: {errors}"
            if not self.console.is_terminal:
                self.console.print(self.latest[job.group], highlight=False, soft_wrap=True)

    def _render(self) -> Group:
        tree = Tree(Text("study", style="bold"))
        for group, total in self.totals.items():
            done = self.done[group]
            mark = "✓" if done == total else "…"
            branch = tree.add(Text(f"{mark} {group}: {done} of {total}"))
            if group in self.latest and done < total:
                branch.add(Text(self.latest[group], style="dim", overflow="ellipsis", no_wrap=True))
        return Group(tree, self.bar)


def _cost(jobs: Iterable[Any]) -> float:
    return float(sum(job.cost for job in jobs))
