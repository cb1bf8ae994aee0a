"""How the weights of a layer act: as a stack of matrices from channels to channels, one a Fourier mode or a tap.

Nobody guesses this from a shape. A layer that is not one of torch's says it by a method ``matrices``, which returns a
`Matrices`; what says nothing is no stack of matrices to anybody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["ActsByMatrices", "Matrices", "matrices_of", "wavenumbers_of"]


@dataclass(frozen=True, eq=False)
class Matrices:
    """The weights of one parameter, as they act.

    Args:
        name: of the parameter, within its layer.
        stack: ``(matrix, rows, columns)``, complex where the layer multiplies complex numbers. Rows and columns are
            channels in and out, in either order, which no singular value hangs on.
        wavenumbers: ``(matrix, axis)``, of each matrix the mode it acts on; None: they are no modes.
    """

    name: str
    stack: Tensor
    wavenumbers: Tensor | None = None


@runtime_checkable
class ActsByMatrices(Protocol):
    """A layer that says how its weights act."""

    def matrices(self) -> Matrices | None:
        """Return the weights as a stack of matrices; None where it has none."""
        ...


def wavenumbers_of(axes: list[list[int]]) -> Tensor:
    """Return the modes of a layer, ``(mode, axis)``, the last axis running fastest, from those of each axis."""
    lines = [torch.tensor(axis) for axis in axes]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flatten(0, -2)


def matrices_of(layer: nn.Module) -> Matrices | None:
    """Return how the weights of one layer act, its children's apart; None: it does not say, or has none.

    Known without a word are torch's linear maps, embeddings and convolutions. A convolution is a matrix for each tap
    (and group); one of each channel by itself a single matrix with a row of taps for each.
    """
    if isinstance(layer, ActsByMatrices):
        return layer.matrices()
    if isinstance(layer, nn.Linear | nn.Embedding):
        return Matrices("weight", layer.weight.detach()[None])
    if isinstance(layer, nn.modules.conv._ConvNd):
        weight, groups = layer.weight.detach(), layer.groups
        if groups > 1 and weight.shape[1] == 1:
            return Matrices("weight", weight.flatten(1)[None])
        grouped = weight.view(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
        return Matrices("weight", grouped.permute(0, 3, 1, 2).flatten(0, 1))
    return None
