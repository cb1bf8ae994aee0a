"""Draw the figures of the gallery (docs/gallery.md): each function makes one, from what every user has.

    python examples/gallery.py docs/images/gallery          # all of them; one trains a small network
    python examples/gallery.py FOLDER steady transfer       # some

Curves are drawn as on the pages of SciFM, as SVG; maps of fields as PNG.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

import scifm
from scifm.evaluation.forecast import judge
from scifm.evaluation.spectra import energy_spectrum
from scifm.findings import Axis, Figure, Panel, Rule, Series
from scifm.report import write_figure
from scifm.systems.catalog import find_system
from scifm.wording import plural

ROOT = Path(__file__).parents[1]
LOOKS = {"font.size": 7.5, "axes.titlesize": 7.5, "axes.linewidth": 0.6, "image.interpolation": "nearest"}
DPI = 110


# --8<-- [start:maps]
def show(axes: Axes, field: np.ndarray, title: str, colors: str = "viridis", limits: Any = None) -> None:
    """Draw a map of a periodic unit square, y upward, with its own bar of colors."""
    low, high = limits if limits is not None else (field.min(), field.max())
    image = axes.imshow(
        field, cmap=mpl.colormaps[colors].resampled(64), vmin=low, vmax=high, origin="lower", extent=(0, 1, 0, 1)
    )
    axes.set(title=title, xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlabel="x", ylabel="y")
    axes.label_outer()
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.85, pad=0.03)
    bar.formatter.set_powerlimits((-3, 4))
    bar.outline.set_linewidth(0.4)


def sheet(rows: int, columns: int, width: float = 7.0, height: float | None = None) -> tuple[Sheet, np.ndarray]:
    """Return a sheet of panels; `height` in inches, left out: that of squares."""
    figure = Sheet(figsize=(width, height or 0.87 * rows * width / columns), layout="constrained", dpi=DPI)
    return figure, figure.subplots(rows, columns, squeeze=False)


# --8<-- [end:maps]


# --8<-- [start:steady]
def steady(folder: Path) -> Path:
    """Three steady equations, one problem each: what is given above, the solution beneath."""
    drawn, axes = sheet(2, 3)
    titles = {"poisson": "Poisson", "advection_diffusion": "Advection–diffusion", "helmholtz": "Helmholtz"}
    for place, (name, title) in enumerate(titles.items()):
        batch = find_system(name)().sample(1, scifm.Grid.square(96), torch.Generator().manual_seed(3))
        show(axes[0, place], batch.field("forcing")[0, 0].numpy(), f"{title}: forcing", "cividis")
        show(axes[1, place], batch.target("solution")[0, 0].numpy(), "solution")
    return saved(drawn, folder / "steady.png")


# --8<-- [end:steady]


# --8<-- [start:evolving]
def evolving(folder: Path) -> Path:
    """Six equations that evolve, one state each, some way into a trajectory."""
    states = {
        "navier_stokes": ("Navier–Stokes: vorticity", {"num_frames": 21}),
        "gray_scott": ("Gray–Scott: catalyst", {"num_frames": 61}),
        "fitzhugh_nagumo": ("FitzHugh–Nagumo: activator", {"num_frames": 11}),
        "shallow_water": ("Shallow water: depth", {"num_frames": 9}),
        "euler": ("Euler: density", {"num_frames": 9}),
        "acoustic": ("Acoustics: pressure", {"num_frames": 9}),
    }
    drawn, axes = sheet(2, 3)
    for place, (name, (title, options)) in zip(axes.flat, states.items(), strict=True):
        batch = find_system(name)(**options).sample(1, scifm.Grid.square(64), torch.Generator().manual_seed(1))
        field = batch.target(title.partition(": ")[2])[0, -1].numpy()
        signed = {"colors": "RdBu_r", "limits": (-abs(field).max(), abs(field).max())} if field.min() < -0.1 else {}
        show(place, field, f"{title}, t = {batch.lead_time[0, -1]:g}", **signed)
    return saved(drawn, folder / "evolving.png")


# --8<-- [end:evolving]


# --8<-- [start:strip]
def strip(folder: Path) -> Path:
    """A trajectory as a strip: six frames with one scale of colors."""
    batch = find_system("gray_scott")().sample(1, scifm.Grid.square(64), torch.Generator().manual_seed(5))
    frames, times = batch.target("catalyst")[0].numpy(), batch.lead_time[0].tolist()
    drawn, axes = sheet(1, 6, height=1.5)
    for place, step in zip(axes.flat, (2, 5, 10, 20, 40, 80), strict=True):
        colors = mpl.colormaps["viridis"].resampled(64)
        image = place.imshow(
            frames[step], cmap=colors, vmin=0, vmax=frames[2:].max(), origin="lower", extent=(0, 1, 0, 1)
        )
        place.set(title=f"t = {times[step]:g}", xticks=[0, 1], yticks=[0, 1], xlabel="x", ylabel="y")
        place.label_outer()
    drawn.colorbar(image, ax=axes, shrink=0.8, pad=0.01, label="catalyst").outline.set_linewidth(0.4)
    return saved(drawn, folder / "strip.png")


# --8<-- [end:strip]


# --8<-- [start:spacetime]
def spacetime(folder: Path) -> Path:
    """Two equations in one dimension, over space and time: Burgers forms shocks, Kuramoto–Sivashinsky is chaotic."""
    drawn, axes = sheet(1, 2, height=2.2)
    burgers = scifm.Burgers(viscosity=0.01, num_frames=101, save_interval=0.01)
    systems = {"Burgers": burgers, "Kuramoto–Sivashinsky": find_system("kuramoto_sivashinsky")(num_frames=101)}
    for place, (title, system) in zip(axes.flat, systems.items(), strict=True):
        batch = system.sample(1, scifm.Grid.square(128, num_spatial_dims=1), torch.Generator().manual_seed(2))
        states, last = batch.target("velocity")[0].numpy(), float(batch.lead_time[0, -1])
        reach = abs(states).max()
        limits = {"vmin": -reach, "vmax": reach, "extent": (0, last, 0, 1), "aspect": "auto", "origin": "lower"}
        image = place.imshow(states.T, cmap=mpl.colormaps["RdBu_r"].resampled(64), **limits)
        place.set(title=title, xlabel="time", ylabel="x")
        drawn.colorbar(image, ax=place, pad=0.02, label="velocity").outline.set_linewidth(0.4)
    return saved(drawn, folder / "spacetime.png")


# --8<-- [end:spacetime]


# --8<-- [start:spectrum]
def spectrum(folder: Path) -> Path:
    """Energy by wavenumber of a forced flow and of a chaotic front, after one frame, after a few, at the end."""
    systems = {
        "navier_stokes": ("Navier–Stokes: vorticity", 2, 64),
        "kuramoto_sivashinsky": ("Kuramoto–Sivashinsky", 1, 128),
    }
    panels = []
    for name, (title, dims, points) in systems.items():
        grid = scifm.Grid.square(points, num_spatial_dims=dims)
        batch = find_system(name)().sample(8, grid, torch.Generator().manual_seed(0))
        energy = energy_spectrum(batch.require_targets(), grid)[:, :, 0].mean(0)  # (time, shell)
        waves, floor, series = tuple(range(1, energy.shape[1] + 1)), 1e-8 * float(energy.max()), []
        for step in (1, 4, 12, 40):
            numbers = tuple(value if value > floor else None for value in energy[step - 1].tolist())
            series.append(Series(label=plural(step, "frame"), x=waves, y=numbers, marked=False))
        x, y = Axis(label="waves along a side, |n|", scale="log"), Axis(label="energy of a shell", scale="log")
        panels.append(Panel(x=x, y=y, series=tuple(series), title=title))
    figure = Figure(caption="Energy by wavenumber, mean over 8 trajectories.", panels=tuple(panels), ordered=True)
    return write_figure(figure, folder / "spectrum.svg")


# --8<-- [end:spectrum]


# --8<-- [start:prediction]
def prediction(folder: Path) -> Path:
    """Truth, prediction and error of a model that comes with SciFM: inside of what it was trained on, and beyond."""
    operator, poisson = scifm.load_operator("scifm/poisson-nano"), scifm.Poisson()
    drawn, axes = sheet(2, 3)
    for row, (anisotropy, where) in enumerate(((3.0, "inside"), (20.0, "beyond"))):
        fixed = poisson.where(anisotropy=anisotropy)
        batch = fixed.sample(1, scifm.Grid.square(64), torch.Generator().manual_seed(4))
        truth = batch.target("solution")[0, 0].numpy()
        answer = operator.answers(batch).target("solution")[0, 0].numpy()
        limits = min(truth.min(), answer.min()), max(truth.max(), answer.max())
        off, share = answer - truth, np.linalg.norm(answer - truth) / np.linalg.norm(truth)
        reach = abs(off).max()
        show(axes[row, 0], truth, f"{where}: anisotropy {anisotropy:g}, truth", limits=limits)
        show(axes[row, 1], answer, "prediction", limits=limits)
        said = f"error, relative L2 {share:.2g}"
        show(axes[row, 2], off, said, "RdBu_r", (-reach, reach))
    return saved(drawn, folder / "prediction.png")


# --8<-- [end:prediction]


BURGERS: Mapping[str, Any] = {
    "name": "burgers-gallery",
    "system": {"name": "burgers", "knobs": {"viscosity": [0.02, 0.05]}},
    "data": {"num_points": 64, "num_validation_samples": 16, "num_normalization_samples": 64},
    "model": {"network": {"width": 16, "modes": 12, "num_layers": 3, "projection_width": 32, "latent_points": 32}},
    "training": {"num_steps": 500, "batch_size": 16, "learning_rate": 5e-3, "validate_every": 250},
}


# --8<-- [start:lead_time]
def lead_time(folder: Path, recipe: Any = BURGERS) -> Path:
    """Error of a forecast by lead time, beside what needs no network."""
    run = scifm.pretrain(recipe, out=folder / "runs")
    burgers, grid = scifm.Burgers(viscosity=scifm.Knob(0.02, 0.05)), scifm.Grid.square(64, num_spatial_dims=1)
    training, unseen = (burgers.sample(n, grid, torch.Generator().manual_seed(n)) for n in (64, 32))
    forecast = judge(scifm.load_operator(run), unseen, training=training)
    model = {
        "y": tuple(forecast.curve()),
        "low": tuple(forecast.quantiles(0.1)),
        "high": tuple(forecast.quantiles(0.9)),
    }
    series = [Series(label="model", x=forecast.times, marked=False, **model)]
    for name in forecast.baselines:
        values = tuple(forecast.baseline(name))
        series.append(Series(label=name, x=forecast.times, y=values, marked=False, line="dashed"))
    bands = [
        Series(label=f"{band} waves", x=forecast.times, y=tuple(forecast.curve(name)), marked=False, place=place)
        for place, (name, band) in enumerate({"spectral_low": "long", "spectral_middle": "middle"}.items(), start=4)
    ]
    x, level = Axis(label="lead time", low=0.0), (Rule(at=1.0),)
    whole, parts = (Axis(label=f"relative L2 error{of}", scale="log") for of in ("", " of a band"))
    panels = (
        Panel(x=x, y=whole, series=tuple(series), rules=level, title="Burgers, 32 unseen trajectories"),
        Panel(x=x, y=parts, series=tuple(bands), rules=level, title="by scale"),
    )
    caption = "Mean error by lead time, the band from the 10th to the 90th percentile over trajectories."
    return write_figure(Figure(caption=caption, panels=panels), folder / "lead-time.svg")


# --8<-- [end:lead_time]


# --8<-- [start:transfer]
def transfer(folder: Path) -> Path:
    """Error against the number of samples, three tasks, from the table that a study leaves behind."""
    with (ROOT / "benchmarks/results/transfer/table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["size"] == "w16"]
    panels = []
    for target, title in TASKS.items():
        series, own = [], [row for row in rows if row["target"] == target]
        for label, kind, line in (("fine-tuned", "few_shot", "solid"), ("from scratch", "from_scratch", "dashed")):
            errors: dict[int, list[float]] = {}
            for row in own:
                if row["kind"] == kind and row["source"] in (target.partition("-")[0], ""):
                    errors.setdefault(int(row["num_samples"]), []).append(float(row["relative_l2"]))
            points = [
                {"x": n, "y": statistics.median(e), "low": min(e), "high": max(e)} for n, e in sorted(errors.items())
            ]
            series.append(Series.of(points, label=label, line=line))
        counts = tuple(sorted({x for one in series for x in one.x}))
        x = Axis(label="number of downstream samples", scale="log", form="count", ticks=counts)
        panels.append(Panel(x=x, y=Axis(label="relative L2 error", scale="log"), series=tuple(series), title=title))
    caption = "Medians over three seeds, the band from the lowest to the highest."
    return write_figure(Figure(caption=caption, panels=tuple(panels), shared=("x", "y")), folder / "transfer.svg")


TASKS = {
    "poisson-2.5-7.5": "Poisson, anisotropy 2.5–7.5",
    "poisson-5-10": "Poisson, anisotropy 5–10",
    "poisson-10-20": "Poisson, anisotropy 10–20",
}
# --8<-- [end:transfer]


def saved(drawn: Sheet, path: Path) -> Path:
    """Write a sheet as PNG with a palette: maps of 64 steps of color and the gray of letters need no more."""
    from PIL import Image

    drawn.draw_without_rendering()  # the layout knows how long numbers are from the second time on
    drawn.savefig(path, dpi=DPI, metadata={"Software": None})
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


FIGURES: dict[str, Callable[[Path], Path]] = {
    figure.__name__: figure
    for figure in (steady, evolving, strip, spacetime, spectrum, prediction, lead_time, transfer)
}


def main(folder: str | Path, names: Sequence[str] = ()) -> list[Path]:
    """Draw the named figures, or all, into `folder`; return their files."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(LOOKS), tempfile.TemporaryDirectory() as aside:
        drawn = (FIGURES[name](Path(aside)) for name in names or FIGURES)
        return [Path(shutil.move(file, place / file.name)) for file in drawn]


if __name__ == "__main__":
    for file in main(sys.argv[1] if len(sys.argv) > 1 else ".", sys.argv[2:]):
        print(file, f"{file.stat().st_size / 1024:.0f} KiB")
