"""`Calibration`: how wrong an operator was on samples it had not seen, kept beside its weights as plain numbers.

Split-conformal bands (Vovk et al. 2005; Lei et al. 2018): each of n samples says how many times wider than a guess a
band around its answer has to be; the ⌈(n + 1) · level⌉-th smallest of these is wide enough for a new sample of the same
kind with the probability `level` at least, whatever the operator and the guess. Of samples of another kind it says
nothing: how unlike the others a sample is inside the network is told beside it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from scifm.errors import ConfigError, RunError
from scifm.runs import write_atomically

__all__ = ["CALIBRATION", "Calibration", "FeatureSpace"]

CALIBRATION = "calibration.safetensors"
"""The file beside the weights."""
_FORM = 1  # of the file
_ROUND_OFF = 1e-9  # 10 · 0.9 is 9
_RIDGE = 1e-3  # of the mean variance: directions in which the samples hardly differ


@dataclass(frozen=True)
class FeatureSpace:
    """Where features of samples lie, as a normal distribution.

    Args:
        center: ``(feature,)``.
        whitening: ``(feature, direction)``: what brings deviations to unit variance.
    """

    center: Tensor
    whitening: Tensor

    @classmethod
    def of(cls, features: Float[Tensor, "sample feature"]) -> FeatureSpace:
        """Return the space of some features, in float64; directions of next to no variance count as of a little."""
        features = features.double()
        center = features.mean(0)
        variances, directions = torch.linalg.eigh(torch.cov(features.T).reshape(features.shape[1], -1))
        floor = _RIDGE * float(variances.clamp(min=0).mean()) or 1.0
        return cls(center, directions / (variances.clamp(min=0) + floor).sqrt())

    def distances(self, features: Float[Tensor, "sample feature"]) -> Tensor:
        """Return how far features lie from the center, ``(sample,)`` (Mahalanobis), dimensionless."""
        return ((features.double() - self.center) @ self.whitening).norm(dim=1)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was seen on samples that an operator had not been trained on.

    Args:
        scores: ``(sample, time, output)``: how many times wider than its guess a band has to be to hold `share` of the
            points; NaN where a sample has not the field.
        errors: ``(sample, time, output)``: relative L2 errors; NaN where they are not defined.
        share: of the points of a field that a band holds; 1: all.
        space: where their features lie; None where the operator has none.
        distances: ``(sample,)``: how far from the others each lies, of which it was none; None where it has none.
        samples: what they were, in words.
    """

    scores: Tensor
    errors: Tensor
    share: float = 1.0
    space: FeatureSpace | None = None
    distances: Tensor | None = None
    samples: str = ""

    @property
    def num_samples(self) -> int:
        """How many samples it was found on."""
        return len(self.scores)

    @property
    def num_frames(self) -> int:
        """How many steps ahead it reaches."""
        return int(self.scores.shape[1])

    def widths(self, level: float) -> Float[Tensor, "time output"]:
        """Return how many times wider than its guess a band is that holds with a probability of `level`.

        NaN of a field that no sample of the calibration has.

        Raises:
            ConfigError: if `level` is no probability, or so few samples cannot promise it.
        """
        if not 0 < level < 1:
            raise ConfigError(f"A level is a probability between 0 and 1, 0.9 for example; got {level:g}.")
        _, frames, outputs = self.scores.shape
        widths = self.scores.new_zeros(frames, outputs)
        for frame in range(frames):
            for output in range(outputs):
                own = self.scores[:, frame, output]
                own = own[~own.isnan()].sort().values
                if not len(own):  # a field that none of the samples has
                    widths[frame, output] = torch.nan
                    continue
                place = math.ceil((len(own) + 1) * level - _ROUND_OFF)
                if place > len(own):
                    least = math.ceil(level / (1 - level) - _ROUND_OFF)
                    raise ConfigError(
                        f"A level of {level:g} needs at least {least} samples to calibrate on; there were {len(own)}. "
                        "Calibrate on more, or ask for a lower level."
                    )
                widths[frame, output] = own[place - 1]
        return widths

    def unlikeness(self, features: Float[Tensor, "sample feature"]) -> tuple[Tensor, Tensor]:
        """Return how far samples lie from those it was found on, and the share of these that lie as far, at least.

        The second is a conformal p-value: of samples of the same kind it is below α with a probability of α at most.
        """
        if self.space is None or self.distances is None:
            raise ConfigError("This calibration holds no features, as the operator does not say where it has some.")
        far = self.space.distances(features)
        beyond = (self.distances[None] >= far[:, None]).sum(1)
        return far, (1 + beyond) / (1 + len(self.distances))

    def write(self, folder: Path) -> None:
        """Write it into the folder of a model.

        Raises:
            RunError: if that fails.
        """
        tensors = {"scores": self.scores, "errors": self.errors}
        if self.space is not None and self.distances is not None:
            tensors |= {"center": self.space.center, "whitening": self.space.whitening, "distances": self.distances}
        about = {"form": _FORM, "share": self.share, "samples": self.samples}
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(folder / CALIBRATION, save_tensors(content, {"scifm": json.dumps(about)}))

    @classmethod
    def read(cls, folder: Path) -> Calibration | None:
        """Return that of the model in a folder; None where there is none.

        Raises:
            RunError: if it is damaged.
        """
        path = folder / CALIBRATION
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as handle:
                about = json.loads(handle.metadata()["scifm"])
                tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
            if about["form"] != _FORM:
                raise RunError(f"'{path}' was written by another version of SciFM. Calibrate the model again.")
            return cls._of(about, tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"'{path}' cannot be read ({type(error).__name__}). Remove it, and calibrate the model again."
            ) from error

    @classmethod
    def _of(cls, about: dict[str, Any], tensors: dict[str, Tensor]) -> Calibration:
        scores, errors = tensors["scores"], tensors["errors"]
        if scores.dim() != 3 or scores.shape != errors.shape:
            raise ValueError("shapes")
        space, distances = None, tensors.get("distances")
        if distances is not None:
            space = FeatureSpace(tensors["center"], tensors["whitening"])
        return cls(scores, errors, float(about["share"]), space, distances, str(about["samples"]))
