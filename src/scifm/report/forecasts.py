"""Forecasts on the page of a run: how far ahead they can be trusted, in which scales, and what they conserve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.part import Number
from scifm.report.parts import Cell, Table
from scifm.report.records import AGAIN, origin_text, read_model
from scifm.wording import count_text, number_text, plural

__all__ = [
    "ForecastRecord",
    "Spectra",
    "Spread",
    "drift_figure",
    "forecast_figure",
    "forecast_table",
    "read_forecasts",
    "spectra_figure",
]

_BANDS = {"spectral_low": "long waves", "spectral_middle": "middle", "spectral_high": "short waves"}
_TIME = "time since the last input frame"
_ROUNDING = 1e-14  # of the largest energy: below it single precision has nothing to say


class Spread(BaseModel):
    """Numbers of a curve over trajectories: mean, 10th and 90th percentile; of a range alone there is no mean."""

    mean: tuple[Number, ...] = ()
    low: tuple[Number, ...] = ()
    high: tuple[Number, ...] = ()


class Spectra(BaseModel):
    """Energy of the shells |n| = 1, 2, … of one channel at one step."""

    channel: str
    step: int
    time: float
    model: Spread
    truth: Spread


class ForecastRecord(BaseModel):
    """What `scifm rollout` kept: curves over time, means over trajectories and channels; see `evaluation.forecast`."""

    origin: dict[str, Any]
    steps: int
    num_lost: int
    num_samples: int
    time_unit: str = ""
    times: tuple[float, ...]
    errors: dict[str, tuple[Number, ...]]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    baselines: dict[str, dict[str, tuple[Number, ...]]]
    drifts: dict[str, tuple[Number, ...]] = {}
    own_drifts: dict[str, tuple[Number, ...]] = {}
    drift_ranges: dict[str, Spread] = {}
    own_drift_ranges: dict[str, Spread] = {}
    spectra: tuple[Spectra, ...] = ()
    windows: dict[str, Number] = {}
    correlation_times: tuple[Number, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What it starts from, in words."""
        return f"{plural(self.num_samples, 'trajectory', 'trajectories')} of {origin_text(self.origin)}"

    @property
    def time(self) -> Axis:
        """The axis of times."""
        return Axis(label=f"{_TIME}, {self.time_unit}" if self.time_unit else _TIME, low=0.0)


def read_forecasts(files: Sequence[Path]) -> list[ForecastRecord]:
    """Return what files of forecasts say.

    Raises:
        RunError: if one cannot be read.
    """
    return [read_model(file, ForecastRecord, remedy=AGAIN) for file in files]


def forecast_figure(record: ForecastRecord) -> Figure:
    """Return error, and error by scale, against time."""
    time, scale = record.time, "log"
    model = Series(
        label="model", x=record.times, y=record.errors["relative_l2"], low=record.low, high=record.high, marked=False
    )
    others = [
        Series(label=name, x=record.times, y=curves["relative_l2"], marked=False, line="dashed")
        for name, curves in record.baselines.items()
    ]
    level = Rule(at=1.0)
    bands = [
        Series(label=label, x=record.times, y=record.errors[name], marked=False, place=place)
        for place, (name, label) in enumerate(_BANDS.items(), start=3)  # solid where the baselines are dashed
        if name in record.errors
    ]
    panels = (
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
            series=tuple(bands),
            rules=(level,),
            title="error by scale",
        ),
    )
    caption = (
        f"How far ahead: means over {record.text}. Error: by time, the band from the 10th to the 90th percentile over "
        "trajectories, beside answers that need no network. "
    )
    caption += "Error by scale: of what each third of the wavenumbers holds. " if bands else ""
    caption += " ".join(["The line at 1 is the error of answering zero.", *record.remarks])
    return Figure(caption=caption, panels=panels if bands else panels[:1])


def spectra_figure(record: ForecastRecord) -> Figure | None:
    """Return energy by wavenumber at the first, the middle and the last step; None where it was not recorded."""
    if not record.spectra:
        return None
    waves, many = Axis(label="waves along a side, |n|", scale="log"), len({own.channel for own in record.spectra}) > 1
    largest = max((e for own in record.spectra for e in own.truth.mean if e is not None), default=1.0)
    panels = []
    for own in record.spectra:
        series = tuple(
            Series(
                label=label,
                x=tuple(range(1, len(shells.mean) + 1)),
                y=_above(shells.mean, _ROUNDING * largest),
                low=_raised(shells.low, _ROUNDING * largest),
                high=_above(shells.high, _ROUNDING * largest),
                marked=False,
                line=line,
            )
            for label, shells, line in (("model", own.model, "solid"), ("truth", own.truth, "dashed"))
        )
        name = own.channel.replace("_", " ")
        panels.append(
            Panel(
                x=waves,
                y=Axis(label=f"energy of {name}" if many else "energy of a shell", scale="log"),
                series=series,
                title=f"step {own.step}, time {own.time:.4g}",
                group=name if many else "",
            )
        )
    caption = (
        f"Energy by wavenumber: the part of the mean square that waves of one length hold, mean over the same "
        f"{plural(record.num_samples, 'trajectory', 'trajectories')}, the band from the 10th to the 90th percentile. "
        "The truth is dashed. What is below 10⁻¹⁴ of the largest is rounding and not shown."
    )
    return Figure(caption=caption, panels=tuple(panels), shared=("x", "y"))


def drift_figure(record: ForecastRecord) -> Figure | None:
    """Return how far what the equation conserves has moved, a panel a quantity; None where nothing is conserved."""
    panels = []
    for name, values in record.drifts.items():
        own = record.own_drifts.get(name)
        ranges = (record.drift_ranges.get(name), record.own_drift_ranges.get(name))
        kinds = [("model", values, ranges[0], "solid")]
        kinds += [("solver", own, ranges[1], "dashed")] if own is not None else []
        series = tuple(
            Series(
                label=label,
                x=record.times,
                y=_above(means, 0.0),
                low=_above(spread.low, 0.0) if spread is not None else (),
                high=_above(spread.high, 0.0) if spread is not None else (),
                marked=False,
                line=line,
            )
            for label, means, spread, line in kinds
        )
        axis = Axis(label="drift, relative to its scale", scale="log")
        panels.append(Panel(x=record.time, y=axis, series=series, title=name.replace("_", " ")))
    caption = (
        "Drift: how far what the equation conserves has moved from its value at the start, mean over the "
        f"same {plural(record.num_samples, 'trajectory', 'trajectories')}, the band from the 10th to the 90th "
        "percentile. The solver's own, of the truth, is dashed."
    )
    return Figure(caption=caption, panels=tuple(panels)) if panels else None


def _above(values: Sequence[Number], least: float) -> tuple[Number, ...]:
    """Return values with gaps where they have no place on a logarithmic axis, or are rounding only."""
    return tuple(value if value is not None and value > least else None for value in values)


def _raised(values: Sequence[Number], least: float) -> tuple[Number, ...]:
    """Return lower ends of intervals that end where the axis has nothing more to say."""
    return tuple(None if value is None else max(value, least) for value in values)


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
