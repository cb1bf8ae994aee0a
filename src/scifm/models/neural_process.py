"""An attentive neural process: a field told at some points, answered at others with a mean and a standard deviation.

It is a plain network on sets of points, no `Operator`: there is no grid, no name and no unit in it. What it says of its
own doubt is what `scifm.fields.conserving` weighs corrections by.

Two paths read the points that are known. One attends from the points that are asked for, so that near ones count; the
other makes of all of them one random number vector, z, which says what the whole function may be like. While it trains
z is drawn as seen by what is known and what is asked together, and held close to how what is known alone sees it.

After Kim et al., "Attentive neural processes" (arXiv:1901.05761), with the sizes of Hansen et al. (arXiv:2302.11002).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from scifm.config import Config
from scifm.errors import SignatureError

__all__ = ["AttentiveNeuralProcess", "NeuralProcessConfig", "PointAnswers"]


class NeuralProcessConfig(Config):
    """Sizes of an attentive neural process; those left out are the published ones, 1.0 million weights.

    Args:
        num_dims: coordinates of a point.
        num_fields: values at it.
        width: of hidden layers.
        heads: of attention.
        self_layers, cross_layers: blocks of attention of each path, and from points asked for to points known.
        decoder_layers: of three times the width.
        dropout: share of each block's attention and answer that is dropped while it trains.
        least: standard deviation that no answer is below.
    """

    num_dims: int = Field(2, ge=1)
    num_fields: int = Field(1, ge=1)
    width: int = Field(128, ge=1)
    heads: int = Field(4, ge=1)
    self_layers: int = Field(2, ge=1)
    cross_layers: int = Field(2, ge=1)
    decoder_layers: int = Field(3, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    least: float = Field(1e-3, gt=0)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> NeuralProcessConfig:
        if self.width % self.heads:
            raise ValueError(
                f"{self.heads} heads share the width, and {self.width} cannot be shared so: take a multiple"
            )
        return self


@dataclass(frozen=True)
class PointAnswers:
    """Gaussians at the points that were asked for.

    Args:
        mean, scale: ``(draw, batch, point, field)``, of each drawn z.
        divergence: ``(batch,)``, of z as seen with the truth from z as seen without [nat]; None where nothing was told.
    """

    mean: Tensor
    scale: Tensor
    divergence: Tensor | None = None

    def log_density(self, values: Tensor) -> Tensor:
        """Return the log density of values ``(batch, point, field)``, ``(draw, batch, point, field)``."""
        off = (values - self.mean) / self.scale
        return -0.5 * off.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def mixed(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance over the draws, ``(batch, point, field)``: what each says, and how they differ."""
        mean = self.mean.mean(0)
        return mean, self.scale.square().mean(0) + (self.mean - mean).square().mean(0)


class _Attention(nn.Module):
    """Attention whose answer is put beside the question, mapped, added to it and normalized."""

    def __init__(self, config: NeuralProcessConfig) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(config.width, config.heads, dropout=config.dropout, batch_first=True)
        self.map = nn.Linear(2 * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heard, _ = self.attention(query, key, value, need_weights=False)
        mapped = self.map(torch.cat([query, heard], dim=-1))
        return self.norm(query + self.dropout(mapped))


class AttentiveNeuralProcess(nn.Module):
    """Points and values of a function, and points → Gaussians there; the module says how.

    Args:
        config: its sizes.
    """

    def __init__(self, config: NeuralProcessConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        told = config.num_dims + config.num_fields
        self.read_latent, self.read_known = nn.Linear(told, width), nn.Linear(told, width)
        self.latent_layers = nn.ModuleList(_Attention(config) for _ in range(config.self_layers))
        self.known_layers = nn.ModuleList(_Attention(config) for _ in range(config.self_layers))
        self.cross_layers = nn.ModuleList(_Attention(config) for _ in range(config.cross_layers))
        self.hide = nn.Linear(width, width)
        self.latent_mean, self.latent_log_scale = nn.Linear(width, width), nn.Linear(width, width)
        self.read_points, self.read_target = nn.Linear(config.num_dims, width), nn.Linear(config.num_dims, width)
        wide = 3 * width
        self.decoder = nn.ModuleList(nn.Linear(wide, wide) for _ in range(config.decoder_layers))
        self.answer = nn.Linear(wide, 2 * config.num_fields)

    def forward(
        self,
        points: Tensor,
        values: Tensor,
        asked: Tensor,
        truth: Tensor | None = None,
        *,
        num_draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> PointAnswers:
        """Return what it says at the points that are asked for.

        Args:
            points: ``(batch, known, dims)``.
            values: ``(batch, known, fields)`` there.
            asked: ``(batch, asked, dims)``.
            truth: ``(batch, asked, fields)`` while it trains: z is then drawn as seen with it.
            num_draws: of z.
            generator: of z; torch's global one when None. Dropout, where on, draws from the global one.

        Raises:
            SignatureError: if sizes do not fit.
        """
        self._require(points, values, asked, truth)
        known = torch.cat([points, values], dim=-1)
        mean, scale = self._latent(known)
        divergence = None
        if truth is not None:
            whole = torch.cat([known, torch.cat([asked, truth], dim=-1)], dim=1)
            prior, narrow = (mean, scale), self._latent(whole)
            divergence = _divergence(narrow, prior)
            mean, scale = narrow
        noise = torch.randn(num_draws, *mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        latent = (mean + scale * noise)[:, :, None].expand(-1, -1, asked.shape[1], -1)
        heard = self._heard(known, points, asked).expand_as(latent)
        target = self.read_target(asked).expand_as(latent)
        hidden = torch.cat([heard, latent, target], dim=-1)
        for layer in self.decoder:
            hidden = functional.relu(layer(hidden))
        mean, raw = self.answer(hidden).chunk(2, dim=-1)
        return PointAnswers(mean, self.config.least + functional.softplus(raw), divergence)

    def _latent(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of z, ``(batch, width)``."""
        hidden = self.read_latent(told)
        for layer in self.latent_layers:
            hidden = layer(hidden, hidden, hidden)
        hidden = functional.relu(self.hide(hidden.mean(dim=1)))
        return self.latent_mean(hidden), (0.5 * self.latent_log_scale(hidden)).exp()

    def _heard(self, known: Tensor, points: Tensor, asked: Tensor) -> Tensor:
        """Return what each point that is asked for hears of those that are known, ``(batch, asked, width)``."""
        hidden = self.read_known(known)
        for layer in self.known_layers:
            hidden = layer(hidden, hidden, hidden)
        query, key = self.read_points(asked), self.read_points(points)
        for layer in self.cross_layers:
            query = layer(query, key, hidden)
        return query

    def _require(self, points: Tensor, values: Tensor, asked: Tensor, truth: Tensor | None) -> None:
        sizes = self.config.num_dims, self.config.num_fields
        given = (("points", points, 0), ("values", values, 1), ("asked", asked, 0), ("truth", truth, 1))
        for what, tensor, which in given:
            if tensor is not None and (tensor.dim() != 3 or tensor.shape[-1] != sizes[which]):
                raise SignatureError(f"'{what}' is (batch, point, {sizes[which]}); got {tuple(tensor.shape)}.")
        if points.shape[:2] != values.shape[:2] or not points.shape[1]:
            raise SignatureError(
                f"Every known point has a value, and there is one at least; got {tuple(points.shape)} and "
                f"{tuple(values.shape)}."
            )


def _divergence(narrow: tuple[Tensor, Tensor], wide: tuple[Tensor, Tensor]) -> Tensor:
    """Return the Kullback–Leibler divergence of two Gaussians with independent parts, ``(batch,)`` [nat]."""
    (mean, scale), (other, other_scale) = narrow, wide
    ratio = (scale / other_scale).square()
    return (0.5 * (ratio + ((mean - other) / other_scale).square() - 1 - ratio.log())).sum(-1)
