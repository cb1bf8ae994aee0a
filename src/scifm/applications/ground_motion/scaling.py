"""How spectra scale: regression on magnitude and ln distance, frequency by frequency, and what is left of it.

    ln A(f) = c₀ + c₁ M + c₂ ln R + residual

by least squares. The residual's standard deviation σ is that of a ground-motion model without other terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scifm.errors import DataError

__all__ = ["Scaling", "regressed"]


@dataclass(frozen=True)
class Scaling:
    """What a regression found, of each frequency.

    Args:
        coefficients: the constant and one for each regressor, ``(1 + regressor, frequency)``.
        errors: their standard errors, of the same shape.
        sigma: standard deviation of the residuals, ``(frequency,)``.
        residuals: ``(record, frequency)``.
    """

    coefficients: Tensor
    errors: Tensor
    sigma: Tensor
    residuals: Tensor


def regressed(values: Tensor, regressors: Tensor) -> Scaling:
    """Return the regression of values on an intercept and regressors.

    Args:
        values: ``(record, frequency)``.
        regressors: ``(record, regressor)``.

    Raises:
        DataError: if there are too few records, or regressors that say the same.
    """
    x = torch.cat([torch.ones(len(regressors), 1, dtype=torch.float64), regressors.double()], dim=1)
    y, spare = values.double(), len(regressors) - x.shape[1]
    if spare < 1 or int(torch.linalg.matrix_rank(x)) < x.shape[1]:
        raise DataError(
            f"{len(x)} records do not tell {x.shape[1]} coefficients apart: give more, of different magnitudes and "
            "distances."
        )
    inverse = torch.linalg.inv(x.T @ x)
    coefficients = inverse @ x.T @ y
    residuals = y - x @ coefficients
    sigma = (residuals.square().sum(dim=0) / spare).sqrt()
    errors = inverse.diagonal().sqrt()[:, None] * sigma
    return Scaling(coefficients, errors, sigma, residuals)
