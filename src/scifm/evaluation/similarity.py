"""How alike are systems to a model? Distances between the clouds that their samples are among its features.

The distance of two systems is the energy coefficient of their samples X and Y,

    H = (2 E|X − Y| − E|X − X′| − E|Y − Y′|) / 2 E|X − Y|,

X′ and Y′ further samples of the same systems and |·| the Euclidean length, each feature in units of its spread within a
system. It lies between 0, where both are distributed alike, and 1, where each is a point (Székely and Rizzo, "Energy
statistics: a class of statistics based on distances", J. Stat. Plan. Inference 143, 2013, 1249–1272, eq. 5 and on). Its
expectations are unbiased, so that chance alone may bring it below 0. Beside each system itself stands the distance of
one half of its samples from the other: what is no larger than that is no difference.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, DataError
from scifm.evaluation.embedding import Embedding
from scifm.findings.figure import Axis, Cells, Figure, Panel, Series
from scifm.findings.finding import Finding, record_findings
from scifm.models.folder import find_model
from scifm.report.drawing import write_figure
from scifm.runs import Run
from scifm.wording import plural

__all__ = ["compare", "energy_coefficient", "similarity"]

_LEAST = 8  # samples of a system, so that each half has four
_MOST = 1000  # samples of a system that are compared
_DRAWN = 150  # points of a system in the map
_TONES = 6


def energy_coefficient(x: Float[Tensor, "sample feature"], y: Float[Tensor, "other feature"]) -> float:
    """Return H of two sets of samples, at least two in each: 0 where they are distributed alike, 1 for two points.

    NaN where all samples of both are one point.
    """
    between = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").mean()
    within = sum((_mean_distance(own) for own in (x, y)), torch.zeros((), dtype=torch.float64))
    return float((2 * between - within) / (2 * between))


def _mean_distance(x: Tensor) -> Tensor:
    """Return the mean distance of two different samples."""
    return torch.pdist(x.double()).mean()


def compare(embedding: Embedding, model: Run | str | Path, *, figure: str | Path | None = None) -> Finding | None:
    """Return how alike systems are to a model, where there are several; what is found of a run of one's own is kept.

    Args:
        embedding: of samples that the model was shown.
        model: where it lies; in the folder of a run the finding joins ``findings.json``, and is then on its page.
        figure: an SVG file to draw it into.

    Raises:
        ConfigError: if `figure` is no name of an SVG file.
        DataError: as for `similarity`, if a figure is asked for; without one, what cannot be compared is not.
        RunError: if a file cannot be written.
    """
    if figure is not None and Path(figure).suffix.lower() != ".svg":
        raise ConfigError(f"Figures are written as .svg; got '{Path(figure).name}'.")
    counts = embedding.counts
    if figure is None and (len(counts) < 2 or min(counts.values()) < _LEAST):
        return None
    found = similarity(embedding)
    if figure is not None and found.figure is not None:
        write_figure(found.figure, Path(figure).expanduser())
    run = find_model(model).run
    if run is not None and run.is_own:
        record_findings(run.path / "findings.json", [found])
    return found


def similarity(embedding: Embedding) -> Finding:
    """Return how far the systems of an embedding lie from each other: a matrix, and a map of all samples.

    Of more than 1,000 samples of a system, so many from all over are compared.

    Raises:
        DataError: if there are fewer than two systems, fewer than 8 samples of one, or a feature is not finite.
    """
    counts = embedding.counts
    if len(counts) < 2:
        raise DataError(
            f"Only one system is there, {next(iter(counts))}, and nothing to compare it with: give more with --beside "
            "NAME, or take a model of several."
        )
    for name, count in counts.items():
        if count < _LEAST:
            raise DataError(
                f"Of {name} there {'is' if count == 1 else 'are'} {plural(count, 'sample')}, and systems are compared "
                f"by at least {_LEAST} of each: ask for more (--num-samples)."
            )
    if not embedding.features.isfinite().all():
        raise DataError("Features are NaN or infinite, so no system is near another: look at the model first.")
    parts = {name: _spread_out(embedding.of(name).double(), _MOST) for name in counts}
    scale = _within(list(parts.values()))
    parts = {name: own / scale for name, own in parts.items()}
    halves = {name: _halves(own, _problems(embedding, name)) for name, own in parts.items()}
    names = list(parts)
    matrix = [[energy_coefficient(*(halves[a] if a == b else (parts[a], parts[b]))) for b in names] for a in names]
    return _finding(names, counts, matrix, parts)


def _spread_out(rows: Tensor, most: int) -> Tensor:
    """Return at most so many rows, evenly from all over."""
    return rows if len(rows) <= most else rows[torch.linspace(0, len(rows) - 1, most).round().long()]


def _within(parts: list[Tensor]) -> Tensor:
    """Return the spread of each feature within systems, root mean square over them; over all where it has none."""
    within = torch.stack([own.var(0, correction=0) for own in parts]).mean(0).sqrt()
    over_all = torch.cat(parts)
    total, size = over_all.std(0, correction=0), over_all.square().mean(0).sqrt()
    scale = torch.where(within > 1e-4 * total, within, total)  # round-off is no spread
    return torch.where(scale > 1e-6 * size, scale, torch.inf)  # what is the same everywhere tells nothing


def _problems(embedding: Embedding, name: str) -> Tensor:
    """Return for each sample of a system which problem it is of: samples behind one another with the same numbers.

    Frames of one trajectory are alike, and must not stand in two halves.
    """
    rows = [own == name for own in embedding.systems]
    columns = [values[rows] for values in embedding.numbers.values()]
    table = torch.stack([own.where(own.isfinite(), 0.0) for own in columns], dim=1) if columns else None
    count = sum(rows)
    if table is None:
        return torch.arange(count)
    changes = (table[1:] != table[:-1]).any(1)
    numbered = torch.cat([torch.zeros(1, dtype=torch.long), changes.long().cumsum(0)])
    return numbered if int(numbered[-1]) > 0 else torch.arange(count)


def _halves(rows: Tensor, problems: Tensor) -> tuple[Tensor, Tensor]:
    """Return the samples of every other problem, and the rest; every other sample, where that leaves one half empty."""
    own = _spread_out(problems[:, None], _MOST)[:, 0]
    odd = own % 2 == 1
    if min(int(odd.sum()), int((~odd).sum())) < 2:
        odd = torch.arange(len(rows)) % 2 == 1
    return rows[odd], rows[~odd]


def _finding(names: list[str], counts: dict[str, int], matrix: list[list[float]], parts: dict[str, Tensor]) -> Finding:
    pairs = {(a, b): matrix[i][k] for i, a in enumerate(names) for k, b in enumerate(names) if i < k}
    (near, least), (far, most) = (pick(pairs.items(), key=lambda pair: pair[1]) for pick in (min, max))
    noise = max(matrix[i][i] for i in range(len(names)))
    alike = f"{near[0]} and {near[1]}"
    if len(pairs) == 1:
        said = f"To the model {alike} lie {least:.2f} apart, on a scale from 0 (alike) to 1."
    else:
        said = f"To the model {alike} are most alike ({least:.2f}), {far[0]} and {far[1]} least ({most:.2f})."
    if least <= noise:
        said += f" {alike[:1].upper() + alike[1:]} are not told apart: halves of one system differ by as much."
    told = ", ".join(f"{name} {matrix[i][i]:.2f}" for i, name in enumerate(names))
    return Finding(
        name="similarity",
        said=said,
        evidence=(
            "Energy coefficients of the samples' features, each feature in units of its spread within systems: 0 is "
            f"alike, 1 is far apart. Halves of one system: {told}. Samples: "
            f"{', '.join(f'{name} {count:,}' for name, count in counts.items())}."
        ),
        statistic=least,
        unit="energy coefficient of the nearest two",
        figure=Figure(
            caption=(
                "How far systems lie apart to the model: the energy coefficient H of their samples' features, 0 where "
                "they are distributed alike, up to 1; on the diagonal that of one half of a system's samples from the "
                "other. Beside it all samples in the plane of the two directions in which features, each in units of "
                "its spread within systems, vary most."
            ),
            panels=(_matrix(names, matrix), _map(parts)),
        ),
    )


def _matrix(names: list[str], matrix: list[list[float]]) -> Panel:
    told = tuple(
        tuple(
            f"{a} beside {b}: {value:.3f}" if a != b else f"{a}, one half beside the other: {value:.3f}"
            for b, value in zip(names, row, strict=True)
        )
        for a, row in zip(names, matrix, strict=True)
    )
    return Panel(
        x=Axis(label="system", categories=tuple(str(place + 1) for place in range(len(names)))),
        y=Axis(label="", categories=tuple(f"{place + 1}  {name}" for place, name in enumerate(names))),
        cells=Cells(values=tuple(map(tuple, matrix)), told=told, low=0.0, high=1.0),
        group="Distance between systems",
    )


def _map(parts: dict[str, Tensor]) -> Panel:
    """Return the samples along the first two principal directions, signs fixed by the largest weight."""
    rows = torch.cat(list(parts.values()))
    middle = rows.mean(0)
    _, sizes, directions = torch.linalg.svd(rows - middle, full_matrices=False)
    directions = directions[:2]
    directions = directions * directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    shares = (sizes.square() / sizes.square().sum().clamp(min=1e-300))[:2].tolist()
    series = []
    for place, (name, own) in enumerate(parts.items()):
        points = (_spread_out(own, _DRAWN) - middle) @ directions.T
        x, *y = points.T.tolist()
        looks = {"hollow": place % (2 * _TONES) >= _TONES, "place": place % _TONES}
        series.append(Series(label=name, x=tuple(x), y=tuple(y[0] if y else [0.0] * len(x)), joined=False, **looks))
    axes = [Axis(label=f"{word} direction, {share:.0%} of variance")
            for word, share in zip(("first", "second"), [*shares, 0.0], strict=False)]  # fmt: skip
    return Panel(x=axes[0], y=axes[1], series=tuple(series), group="Samples")
