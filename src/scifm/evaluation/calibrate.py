"""Calibrate a model: how wide bands around its answers have to be, found on samples it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from scifm.data.equations import told_of
from scifm.data.origins import StoreOrigin
from scifm.data.sample_recipe import SampleRecipe
from scifm.errors import RunError
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.models.bands import bands, calibrate
from scifm.models.calibration import CALIBRATION, Calibration
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.report.records import origin_text
from scifm.shipped import shipped_model

__all__ = ["CalibrateRecipe", "Calibrated", "calibrate_model", "one_of_each"]

_STREAM = "calibrate"


class CalibrateRecipe(SampleRecipe):
    """What a model is calibrated on.

    Args:
        split: of a store; its validation split when left out, so that its test split can tell whether bands hold.
        num_samples: samples drawn of a system; of what evolves trajectories, each of which counts as one; of a
            mixture that evolves windows, several of a trajectory.
        share: of the points of a field that a band holds; 1: the whole field.
        level: probability of the bands that are told; any other can be asked for afterwards.
        num_seen: further samples, without solutions, like those it was trained on: what lies far from them is told to
            be unlike them.
    """

    split: str = "valid"
    num_samples: int = Field(256, ge=2)
    share: float = Field(1.0, gt=0, le=1)
    level: float = Field(0.9, gt=0, lt=1)
    num_seen: int = Field(512, ge=2)


@dataclass(frozen=True)
class Calibrated:
    """What was found.

    Args:
        calibration: as it lies beside the weights.
        path: the file.
        level: of the bands that are told.
        widths: ``(time, output)``: half their width, in units of the guess.
        relative_widths: ``(time, output)``: half their width over the size of the answer, root mean squares, mean over
            the samples it was found on.
    """

    calibration: Calibration
    path: Path
    level: float
    widths: Tensor
    relative_widths: Tensor


def calibrate_model(model: str | Path, how: CalibrateRecipe | None = None) -> Calibrated:
    """Calibrate a model of one's own; what is found is kept beside its weights, in place of what was found before.

    Args:
        model: a run, its folder, or that of a model.
        how: the defaults when left out: samples like those it was trained on, drawn for this.

    Raises:
        ConfigError: if nothing says what it was trained on, or so few samples cannot tell a band of that level.
        RunError: if there is no such model, it comes with the package or is not one's own, or cannot be written.
        SignatureError: if samples do not fit it.
        StoreError: if a store cannot be read.
    """
    how, place = how or CalibrateRecipe(), find_model(model)
    if shipped_model(str(model)) is not None or str(model).startswith("hf:"):
        raise RunError(
            f"'{model}' is not yours to write into. Copy it first: scifm.load_operator('{model}').save_pretrained(…), "
            "then calibrate the copy; or in Python scifm.calibrate(operator, samples)."
        )
    if place.run is not None and not place.run.is_own:
        raise RunError(f"'{place.path}' is a run of somebody else, and nothing is written there. Copy its model first.")
    operator, origin = load_operator(place.folder), how.origin_for(place)
    drawn = origin.problems(how.num_samples, _STREAM, seed=how.seed, split=how.split)
    samples = one_of_each(drawn, origin.windows, how.seed)
    operator = told_of(operator, samples.describe())
    seen = origin.draw(how.num_seen, _STREAM, "seen", seed=how.seed)
    about = origin_text(origin.describe() | ({"split": how.split} if isinstance(origin, StoreOrigin) else {}))
    found = calibrate(operator, samples, seen=seen, share=how.share, about=about)
    widths = found.widths(how.level)
    banded = bands(operator, samples, how.level)
    dims = samples.grid.num_spatial_dims
    axes = tuple(range(-dims, 0))
    half = ((banded.high - banded.low) / 2).square().mean(axes).sqrt()
    size = banded.answers.require_targets().square().mean(axes).sqrt()
    found.write(place.folder)
    there = size > 0
    relative = torch.where(there, half / torch.where(there, size, 1.0), 0.0).sum(0) / there.sum(0).clamp(min=1)
    relative = relative.masked_fill(widths.isnan(), torch.nan)
    return Calibrated(found, place.folder / CALIBRATION, how.level, widths, relative)


def one_of_each(samples: Samples, windows: int, seed: int) -> Batch:
    """Return one window of every trajectory, at a time that is drawn: windows of one are alike, and count as one."""
    count = samples.num_samples // windows
    drawn = torch.randint(windows, (count,), generator=generator_for(seed, _STREAM, "windows"))
    return samples.batch(torch.arange(count) * windows + drawn)
