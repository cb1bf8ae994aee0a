from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.norms import integral, l2_norm, mean, rms

BOX = Grid((10, 12), (2.0, 3.0), (True, True))


def sine():
    y, x = BOX.coordinates()
    return (torch.sin(2 * math.pi * y / 2.0)[:, None] * torch.ones_like(x)).expand(4, 3, 10, 12)


def test_norms_of_a_sine_on_an_unequal_box():
    assert integral(sine(), BOX).shape == (4, 3)
    torch.testing.assert_close(rms(sine(), BOX), torch.full((4, 3), 0.5**0.5, dtype=torch.float64))
    torch.testing.assert_close(l2_norm(sine(), BOX), torch.full((4, 3), (0.5 * 6.0) ** 0.5, dtype=torch.float64))
    torch.testing.assert_close(mean(sine() + 2, BOX), torch.full((4, 3), 2.0, dtype=torch.float64))


def test_open_axes_use_the_trapezoidal_rule():
    line = Grid((5,), (2.0,), (False,))
    (x,) = line.coordinates()
    assert integral(3 * x + 1, line).item() == pytest.approx(8.0)


def test_nan_stays_nan():
    field = sine().clone()
    field[0, 0, 3, 3] = torch.nan
    assert rms(field, BOX).isnan().sum() == 1


def test_foreign_fields_are_refused():
    with pytest.raises(SignatureError, match=r"\(10, 12\)"):
        l2_norm(torch.zeros(12, 10), BOX)
