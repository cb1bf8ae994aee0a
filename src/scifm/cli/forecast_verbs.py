"""``scifm rollout``: let a model march, and see how far ahead it can be trusted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scifm.cli.app import AsJson, Imports, Model, app, console, print_json, print_rows, print_table
from scifm.cli.progress import counting, progress_bars
from scifm.cli.recipes import SAMPLES, settings, told_by
from scifm.wording import plural

if TYPE_CHECKING:
    from scifm.evaluation.forecast import Forecast

__all__ = ["rollout"]

_MOST_ROWS = 12
_NARROW = {"persistence": "persist-\nence", "climatology": "clima-\ntology", "correlation": "corre-\nlation"}
Steps = Annotated[int | None, typer.Option("--steps", help="How many steps it marches; default: 20.")]


@app.command()
@told_by(*SAMPLES, steps=Steps)
def rollout(
    run: Annotated[Path, Model],
    tree: dict[str, Any],
    out: Annotated[Path | None, typer.Option("--out", help="NetCDF file that keeps every frame.")] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Let a model march from the first frames of unseen trajectories; judge it by lead time, beside trivial answers.

    It starts from what it was trained on unless a system or a store is given. What is found is kept in the run folder,
    if it is yours, and shown on its page.
    """
    from scifm.evaluation.rollouts import forecast

    how = settings("rollout", tree)
    with progress_bars(console) as progress:
        found, about = forecast(run, how, out=out, progress=counting(progress, "marching"))
    if as_json:
        print_json({**about, **found.to_dict()})
        return
    print_table(_table(found, about.get("time_unit", "")))
    _print_summary(found, about)


def _number(value: float | None) -> str:
    return "lost" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _table(found: Forecast, unit: str) -> Table:
    names = list(found.baselines)
    related = {"correlation": found.curve("correlation")} if "correlation" in found.errors else {}
    title = f"Relative L2 error by lead time, mean over {plural(len(found.lost_at), 'trajectory', 'trajectories')}"
    table = Table(title=title)
    for head in ("step", f"time, {unit}" if unit else "time", "model", "10–90 %", *names, *related):
        table.add_column(_NARROW.get(head, head), no_wrap=True)
    each = max(1, math.ceil(found.num_steps / _MOST_ROWS))
    shown = [*range(0, found.num_steps - 1, each), found.num_steps - 1]
    curve, low, high = found.curve(), found.quantiles(0.1), found.quantiles(0.9)
    others = [found.baseline(name) for name in names]
    for step in shown:
        between = f"{low[step]:.2g}–{high[step]:.2g}"
        baselines = (_number(other[step]) for other in others)
        row = (str(step + 1), f"{found.times[step]:g}", _number(curve[step]), between, *baselines)
        table.add_row(*row, *(_number(own[step]) for own in related.values()))
    return table


def _print_summary(found: Forecast, about: dict[str, Any]) -> None:
    rows = [(f"VRMSE, step {name}", _number(value)) for name, value in found.windows().items()]
    times = found.correlation_time()
    reached = [time for time in times if time is not None]
    if len(reached) < len(times):
        rows.append(("correlation above 0.8", f"to the end in {len(times) - len(reached)} of {len(times)}"))
    if reached:
        rows.append(
            ("correlation below 0.8", f"after {sorted(reached)[len(reached) // 2]:g} (median of {len(reached)})")
        )
    for name, values in found.drifts.items():
        own = found.own_drifts[name]
        rows.append(
            (f"drift of {name}", f"{_number(float(values.abs().max()))}; the truth's {_number(float(own.abs().max()))}")
        )
    steps = plural(about["steps"], "step")
    rows.append(("left every bound", f"{about['num_lost']} of {len(found.lost_at)} in {steps}"))
    rows += [(name, str(about[key])) for name, key in (("frames", "out"), ("kept in", "file")) if key in about]
    rows += [("beware", remark) for remark in found.remarks]
    print_rows("Forecast", rows)
