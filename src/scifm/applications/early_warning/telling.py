"""What a warning was worth, as an account: errors by lead time, maps of peaks, waveforms, times of warning."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scifm.applications.early_warning.forecasting import Forecasts, WarnRecipe
from scifm.applications.early_warning.peaks import by_lead, covering, warning_times
from scifm.applications.early_warning.scores import FELT, by_event, mean_peaks, threshold_of
from scifm.fields.window import Window
from scifm.findings.account import Account, Chapter, KeyFigure, MapOf, Maps, Places, Rows
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.wording import number_text, plural

__all__ = ["account_of", "arrays_of"]

_NUM_WAVEFORMS = 3
_BOUND = 100.0  # times the largest value seen: beyond it a forecast is lost, as on any march
_MOST_ROWS = 64  # of the table of events


def account_of(
    found: Forecasts,
    recipe: WarnRecipe,
    window: Window,
    width: tuple[float, float] | None,
    *,
    model: str,
    store: str,
) -> Account:
    """Return the account of forecasts.

    Args:
        found: of the events that are told of.
        recipe: how they were asked for.
        window: how many frames were seen, at how many stations.
        width: of the intervals, as `peaks.widened` found it on other events; None: on none.
        model: what was asked.
        store: where the events are from.
    """
    each = by_event(found, recipe)
    factor, late, ahead = (float(np.median([row[name] for row in each])) for name in ("factor", "late", "error"))
    events, seen = plural(len(found.true), "event"), _seen_text(found, window)
    headline = Finding(
        name="peaks",
        said=f"From {seen}, peak velocity is off by a factor of {factor:.2f} in the median place and event, the time "
        f"of the peak by {late:.2g} s.",
        evidence=f"{events.capitalize()} of {store}, forecast by {model}; of each the places that are shaken by more "
        f"than {100 * FELT:g} % of its strongest peak. Relative error of the map of peaks: {number_text(ahead)}.",
        statistic=factor,
    )
    findings = [headline, _warned(found, recipe), *_intervals(found, recipe, width)]
    findings += _runaway(found)
    findings += [Finding(name="outside", said=sentence, good=False) for sentence in found.outside]
    middle = _middle(each)
    chapters = (
        Chapter(title="How far ahead it can be trusted", figures=(_leads(found),)),
        Chapter(
            title="How strongly it shakes, and when",
            text=f"Event {middle + 1} of {len(each)}, the one whose map of peaks has the median error.",
            maps=_maps(found, middle),
        ),
        Chapter(title="Waveforms", figures=(_waveforms(found, middle),)),
        Chapter(title="Event by event", tables=(_table(each),)),
    )
    return Account(
        application="early warning",
        question=f"How strongly will each place shake, from {seen}?",
        findings=tuple(findings),
        key_figures=_key_figures(found, recipe, factor, late, width),
        chapters=chapters,
        definitions=_definitions(recipe, found),
        limits=(
            "The truth is that of the waves in the store, not of the ground.",
            "What was shaken before the last frame seen is no forecast: peaks are those behind it.",
        ),
    )


def arrays_of(
    found: Forecasts, recipe: WarnRecipe, width: tuple[float, float] | None
) -> Mapping[str, NDArray[np.floating]]:
    """Return the maps that the account shows, and of all events the peaks, true and foretold, with their bands."""
    middle = _middle(by_event(found, recipe))
    true, said = found.peaks, mean_peaks(found)
    ever, times = warning_times(found.true, found.lead_times, threshold_of(found, recipe))
    known, _ = warning_times(found.said, found.lead_times, threshold_of(found, recipe))
    ahead = torch.where(ever & known, times, torch.nan)
    when = found.draws.time.mean(0)
    maps = {
        "peak true": true.velocity, "peak foretold": said,
        "peak ratio": (said / true.velocity.clamp(min=found.least)).log10(),
        "time true": true.time, "time foretold": when, "time difference": when - true.time, "warning": ahead,
    }  # fmt: skip
    arrays = {name: own[middle].double().numpy() for name, own in maps.items()}
    used = width or (1.0, 0.0)
    _, low, high = covering(found.draws.velocity, true.velocity, used, least=found.least)
    whole = {"peaks": true.velocity, "peaks foretold": said, "peaks low": low, "peaks high": high}
    return {**arrays, **{name: own.float().numpy() for name, own in whole.items()}}


def _middle(each: list[dict[str, float]]) -> int:
    """Return the event whose map of peaks has the median error."""
    errors = [row["error"] for row in each]
    return sorted(range(len(errors)), key=errors.__getitem__)[(len(errors) - 1) // 2]


# --- words ------------------------------------------------------------------------------------------------------------


def _seen_text(found: Forecasts, window: Window) -> str:
    frames = plural(window.history, "frame")
    if not window.stations:
        return f"{frames} seen everywhere"
    share = 100 * window.stations / math.prod(found.asked.grid.num_points)
    return f"{frames} at {plural(window.stations, 'station')} ({share:.2g} % of the points)"


def _warned(found: Forecasts, recipe: WarnRecipe) -> Finding:
    threshold = threshold_of(found, recipe)
    ever, times = warning_times(found.true, found.lead_times, threshold)
    known, _ = warning_times(found.said, found.lead_times, threshold)
    rightly, alarms = ever & known, known & ~ever
    share = float(rightly.sum() / ever.sum().clamp(min=1))
    wrong = float(alarms.sum() / known.sum().clamp(min=1))
    if not bool(rightly.any()):
        return Finding(name="warning", said=f"No place that goes beyond {threshold:.3g} is warned.", good=False)
    median, most = (float(torch.quantile(times[rightly].double(), part)) for part in (0.5, 0.9))
    return Finding(
        name="warning",
        said=f"Of the places that go beyond {threshold:.3g} behind the last frame seen, {100 * share:.0f} % are "
        f"warned, half of them {_time_text(median)} ahead or more.",
        evidence=f"A tenth has {_time_text(most)} or more; of all warnings {100 * wrong:.0f} % are false.",
        statistic=median, unit="s",
    )  # fmt: skip


def _runaway(found: Forecasts) -> list[Finding]:
    """Return that forecasts grow beyond every bound, where they do: a march that feeds on its own errors."""
    seen = found.asked.inputs.abs().flatten(1).amax(1)
    lost = int((found.said.abs().flatten(1).amax(1) > _BOUND * seen).sum())
    if not lost:
        return []
    return [Finding(
        name="bounds", statistic=float(lost), threshold=0.0, good=False,
        said=f"In {lost} of {plural(len(seen), 'event')} the forecast grows to more than {_BOUND:g} times what was "
            "seen.",
        evidence="No wave does: the network's march feeds on its own errors, and nothing of such a forecast counts.",
        advice="Train it over more frames than it takes (data.horizon above data.history), or forecast fewer (--set "
        "steps=…).",
    )]  # fmt: skip


def _time_text(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 60 else f"{seconds / 60:.2g} minutes"


def _intervals(found: Forecasts, recipe: WarnRecipe, width: tuple[float, float] | None) -> list[Finding]:
    """Return how many peaks lie in their intervals: those of the draws alone, and those widened on other events."""
    true, draws, nominal = found.peaks.velocity, found.draws.velocity, recipe.level
    told = []
    if len(draws) > 1:
        normal = float(torch.special.ndtri(torch.tensor(0.5 + nominal / 2)))
        held, _, _ = covering(draws, true, (normal, 0.0), least=found.least)
        share = float(held.float().mean())
        told.append(Finding(
            name="draws", statistic=share, threshold=nominal, good=abs(share - nominal) <= 0.05,
            said=f"Intervals from {len(draws)} draws alone hold {100 * share:.0f} % of the peaks instead of "
            f"{100 * nominal:g} %.",
            evidence="Draws are sets of stations and members of an ensemble; what they agree in, they do not tell.",
        ))  # fmt: skip
    if width is not None:
        held, low, high = covering(draws, true, width, least=found.least)
        share, wide = float(held.float().mean()), float((high / low).sqrt().median())
        told.append(Finding(
            name="intervals", statistic=share, threshold=nominal, good=abs(share - nominal) <= 0.05,
            said=f"Intervals widened on other events hold {100 * share:.0f} % of the peaks; {100 * nominal:g} % were "
            "wanted.",
            evidence=f"They reach a factor of {wide:.2f} up and down in the median place. They are made so that they "
            "hold that share for events like those of the training.",
            advice="" if abs(share - nominal) <= 0.05 else "Do not rely on them: these events are unlike those.",
        ))  # fmt: skip
    return told


def _key_figures(
    found: Forecasts, recipe: WarnRecipe, factor: float, late: float, width: tuple[float, float] | None
) -> tuple[KeyFigure, ...]:
    warned = _warned(found, recipe)
    figures = [
        KeyFigure(label="Peak velocity", value=f"× {factor:.2f}", note="off by this factor, median"),
        KeyFigure(label="Time of the peak", value=f"{late:.2g} s", note="off, median"),
    ]
    if warned.statistic is not None:
        figures.append(KeyFigure(label="Warning", value=f"{warned.statistic:.3g} s", note="ahead, median"))
    for finding in _intervals(found, recipe, width)[-1:]:
        assert finding.statistic is not None
        note = f"{100 * recipe.level:g} % wanted"
        figures.append(KeyFigure(label="Peaks in their intervals", value=f"{100 * finding.statistic:.0f} %", note=note))
    return tuple(figures)


def _definitions(recipe: WarnRecipe, found: Forecasts) -> tuple[str, ...]:
    threshold = threshold_of(found, recipe)
    chosen = "the median of the peaks that were" if recipe.threshold is None else "as asked for"
    return (
        f"Peak velocity: the largest length of the vector ({', '.join(found.directions)}) over the frames behind the "
        "last one seen. Off by a factor of 1.3: 30 % too large, or as much too small.",
        f"A place is warned where the forecast goes beyond {threshold:.3g}, {chosen}; a warning's time is that to when "
        "the truth first does.",
        "Correlation is uncentered, ∑ p t ∕ √(∑ p² ∑ t²); the relative error is ‖p − t‖ ∕ ‖t‖, which is 1 for a "
        "forecast of nothing.",
    )


# --- figures and maps -------------------------------------------------------------------------------------------------


def _leads(found: Forecasts) -> Figure:
    correlation, error = by_lead(found.said, found.true)
    times = tuple(found.lead_times[0].tolist())
    x = Axis(label="time behind the last frame seen, s", low=0.0)

    def series(values: Tensor) -> Series:
        finite = [own[torch.isfinite(own)] for own in values.unbind(1)]
        low, middle, high = (
            [float(torch.quantile(own, part)) if len(own) else None for own in finite] for part in (0.1, 0.5, 0.9)
        )
        return Series(label="forecast", x=times, y=tuple(middle), low=tuple(low), high=tuple(high), marked=False)

    panels = (
        Panel(x=x, y=Axis(label="correlation", high=1.02), series=(series(correlation),), title="correlation"),
        Panel(
            x=x, y=Axis(label="relative L2 error", low=0.0), series=(series(error),), title="relative error",
            rules=(Rule(at=1.0, told="a forecast of nothing", line="dotted"),),
        ),
    )  # fmt: skip
    caption = (
        "Correlation and relative error of velocities over all places, frame by frame: median and 10 to 90 % of the "
    )
    return Figure(caption=caption + "events. The dotted line is a forecast of nothing.", panels=panels)


def _maps(found: Forecasts, event: int) -> tuple[Maps, ...]:
    extent = tuple(map(float, found.asked.grid.extent))
    stations = _stations(found, event)
    ratio = "log₁₀ of foretold over true"
    rows = (
        (MapOf(array="peak true", title="peak velocity, true"), MapOf(array="peak foretold", title="foretold"),
         MapOf(array="peak ratio", title=ratio, kind="error", low=-1.0, high=1.0)),
    )  # fmt: skip
    times = (
        (MapOf(array="time true", title="time of the peak, true"), MapOf(array="time foretold", title="foretold"),
         MapOf(array="time difference", title="foretold − true", kind="error")),
    )  # fmt: skip
    where = "" if not stations else f" Marked: {len(stations[0].x)} stations."
    warning = ((MapOf(array="warning", title="warning, s", kind="asked", low=0.0),),)
    plane: tuple[float, float] = (extent[0], extent[1])
    return (
        Maps(caption=f"Peak velocity, and what the forecast makes of it.{where}", rows=rows, extent=plane,
             places=stations),
        Maps(caption="When the peak comes, in seconds behind the last frame seen.", rows=times, extent=plane),
        Maps(caption="How long before the threshold each place is warned; gray: it is not, or need not be.",
             rows=warning, extent=plane),
    )  # fmt: skip


def _stations(found: Forecasts, event: int) -> tuple[Places, ...]:
    """Return where the stations of an event stand; none where all is seen."""
    if found.asked.valid_inputs is None:
        return ()
    lines = found.asked.grid.coordinates()
    places = found.asked.valid_inputs[event, -1, 0].nonzero().tolist()
    return (Places(label="stations", x=tuple(float(lines[1][x]) for _, x in places),
                   y=tuple(float(lines[0][y]) for y, _ in places)),)  # fmt: skip


def _waveforms(found: Forecasts, event: int) -> Figure:
    """Return what was recorded at a few places and what was forecast: the strongest peak, and two weaker ones."""
    peaks = found.peaks.velocity[event].flatten()
    felt = (peaks > FELT * peaks.max()).nonzero().flatten()
    order = felt[peaks[felt].argsort(descending=True)]
    chosen = [int(order[round(share * (len(order) - 1))]) for share in np.linspace(0, 0.8, _NUM_WAVEFORMS)]
    times, across = tuple(found.lead_times[event].tolist()), found.asked.grid.num_points[1]
    lines = found.asked.grid.coordinates()
    panels = []
    for name, direction in ((name, k) for k, name in enumerate(found.directions[:2])):
        for place in chosen:
            y, x = place // across, place % across
            said, true = (own[event, :, direction, y, x].tolist() for own in (found.said, found.true))
            panels.append(Panel(
                x=Axis(label="time behind the last frame seen, s"), y=Axis(label=name.replace("_", " ")),
                title=f"at x = {float(lines[1][x]):.3g}, y = {float(lines[0][y]):.3g}",
                series=(Series(label="forecast", x=times, y=tuple(said), marked=False),
                        Series(label="truth", x=times, y=tuple(true), marked=False, line="dashed")),
            ))  # fmt: skip
    caption = "What was recorded at three places, dashed, and what was forecast: where it shook most, and where less."
    return Figure(caption=caption, panels=tuple(panels), columns=_NUM_WAVEFORMS)


def _table(each: list[dict[str, float]]) -> Rows:
    columns = {
        "strongest peak": "strongest", "off by ×": "factor", "map of peaks, rel. error": "error",
        "wavefield, correlation": "correlation", "rel. error": "wavefield", "time of peak off, s": "late",
        "warned": "warned", "missed": "missed", "false alarms": "false", "ahead, s": "ahead",
    }  # fmt: skip
    shown = each[:_MOST_ROWS]
    shares = {"warned", "missed", "false"}

    def told(row: dict[str, float], name: str) -> str:
        if name in shares:
            return f"{100 * row[name]:.0f} %"
        return number_text(row[name]) if math.isfinite(row[name]) else "–"

    rows = tuple((str(k), *(told(row, own) for own in columns.values())) for k, row in enumerate(shown, start=1))
    caption = (
        "Every event: its strongest peak behind the last frame seen, how far off the forecast was, and which part of "
    )
    caption += "all places was rightly warned, missed, or warned in vain."
    return Rows(name="events", caption=caption, headers=("event", *columns), rows=rows)
