"""Forecasts on the page of a run: how far ahead they can be trusted, in which scales, and what they conserve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.part import Number
from scifm.report.parts import Cell, Table
from scifm.report.records import AGAIN, origin_text, read_model
from scifm.wording import count_text, number_text, plural

__all__ = ["ForecastRecord", "forecast_figure", "forecast_table", "read_forecasts"]

_BANDS = {"spectral_low": "long waves", "spectral_middle": "middle", "spectral_high": "short waves"}
_TIME = "time since the last input frame"


class ForecastRecord(BaseModel):
    """What `scifm rollout` kept: curves over time, means over trajectories and channels; see `evaluation.forecast`."""

    origin: dict[str, Any]
    steps: int
    num_lost: int
    num_samples: int
    times: tuple[float, ...]
    errors: dict[str, tuple[Number, ...]]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    baselines: dict[str, dict[str, tuple[Number, ...]]]
    drifts: dict[str, tuple[Number, ...]] = {}
    own_drifts: dict[str, tuple[Number, ...]] = {}
    windows: dict[str, Number] = {}
    correlation_times: tuple[Number, ...] = ()

    @property
    def text(self) -> str:
        """What it starts from, in words."""
        return f"{plural(self.num_samples, 'trajectory', 'trajectories')} of {origin_text(self.origin)}"


def read_forecasts(files: Sequence[Path]) -> list[ForecastRecord]:
    """Return what files of forecasts say.

    Raises:
        RunError: if one cannot be read.
    """
    return [read_model(file, ForecastRecord, remedy=AGAIN) for file in files]


def forecast_figure(record: ForecastRecord) -> Figure:
    """Return error, error by scale and, where something is conserved, drift against time."""
    time, scale = Axis(label=_TIME, low=0.0), "log"
    model = Series(
        label="model", x=record.times, y=record.errors["relative_l2"], low=record.low, high=record.high, marked=False
    )
    others = [
        Series(label=name, x=record.times, y=curves["relative_l2"], marked=False, line="dashed")
        for name, curves in record.baselines.items()
    ]
    level = Rule(at=1.0, label="as good as zero", line="dotted")
    panels = [
        Panel(
            x=time,
            y=Axis(label="relative L2 error", scale=scale),
            series=(model, *others),
            rules=(level,),
            title="error",
        ),
        Panel(
            x=time,
            y=Axis(label="relative L2 error of a band", scale=scale),
            series=tuple(
                Series(label=label, x=record.times, y=record.errors[name], marked=False)
                for name, label in _BANDS.items()
                if name in record.errors
            ),
            rules=(level,),
            title="error by scale",
        ),
    ]
    if record.drifts:
        panels.append(_drift_panel(record, time))
    caption = (
        f"How far ahead: means over {record.text}. Error: by time, the band from the 10th to the 90th percentile over "
        "trajectories, beside answers that need no network. Error by scale: of what each band of wavenumbers holds."
    )
    if record.drifts:
        caption += " Drift: how far what the equation conserves has moved from its start, the solver's own dashed."
    return Figure(caption=caption, panels=tuple(panels))


def _drift_panel(record: ForecastRecord, time: Axis) -> Panel:
    def above_zero(values: tuple[Number, ...]) -> tuple[Number, ...]:
        return tuple(value if value else None for value in values)  # zero has no place on a logarithmic axis

    series = []
    for place, (name, values) in enumerate(record.drifts.items()):
        looks: Mapping[str, Any] = {"x": record.times, "marked": False, "place": place}
        series.append(Series(label=name, y=above_zero(values), **looks))
        if name in record.own_drifts:
            own = above_zero(record.own_drifts[name])
            series.append(Series(label=f"{name}, solver", y=own, line="dashed", **looks))
    return Panel(x=time, y=Axis(label="mean drift, relative", scale="log"), series=tuple(series), title="drift")


def forecast_table(records: Sequence[ForecastRecord]) -> Table:
    """Return a row a forecast: errors at the first and last time, beside persistence, and what was lost."""

    def at(values: Sequence[Number], place: int) -> str:
        value = values[place] if values else None
        return "lost" if value is None else number_text(value)

    rows = []
    for record in records:
        still = record.baselines.get("persistence", {}).get("relative_l2", ())
        error = record.errors["relative_l2"]
        windows = ", ".join(f"{name}: {'lost' if v is None else number_text(v)}" for name, v in record.windows.items())
        texts = (
            record.text,
            f"{record.times[0]:g}–{record.times[-1]:g}",
            at(error, 0),
            at(error, -1),
            at(still, 0),
            at(still, -1),
            windows,
            f"{record.num_lost} of {record.num_samples} in {count_text(record.steps)} steps",
        )
        rows.append(tuple(map(Cell, texts)))
    headers = (
        "starts from", "times", "error, first step", "last step", "persistence, first step", "last step of it",
        "VRMSE, by steps", "left every bound",
    )  # fmt: skip
    caption = "Forecasts by lead time, relative L2 error and VRMSE, means over trajectories; the latest comes first."
    return Table("forecasts", caption, headers, tuple(rows), wordy=headers[:1])
