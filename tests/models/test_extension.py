"""Boxes with walls: continuous as a period, cropped exactly, and the walls can be seen."""

from __future__ import annotations

import pytest
import torch

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.fno import FNO, FNOConfig
from scifm.models.parts.grids import extend_to_period, position_channels

WALLS = Grid((16, 12), (1.0, 2.0), (False, True))


def test_a_periodic_axis_is_left_alone_and_a_walled_one_closes_smoothly():
    fields = torch.randn(2, 1, 3, 16, 12)
    longer = extend_to_period(fields, WALLS)
    assert longer.shape == (2, 1, 3, 20, 12)
    assert torch.equal(longer[..., :16, :], fields)
    low, high = (
        torch.minimum(fields[..., -1, :], fields[..., 0, :]),
        torch.maximum(fields[..., -1, :], fields[..., 0, :]),
    )
    passage = longer[..., 16:, :]
    assert (passage >= low[..., None, :] - 1e-6).all()
    assert (passage <= high[..., None, :] + 1e-6).all()
    steps = torch.diff(torch.cat([longer[..., 15:, :], longer[..., :1, :]], dim=-2), dim=-2).abs()
    assert (steps <= 0.4 * (high - low)[..., None, :] + 1e-6).all()  # no jump is left


def test_positions_run_from_wall_to_wall():
    channels = position_channels(WALLS, torch.zeros(2, 1, 3, 16, 12))
    assert channels.shape == (2, 1, 2, 16, 12)
    torch.testing.assert_close(channels[0, 0, 0, :, 3], torch.linspace(-1, 1, 16))
    assert not channels[:, :, 1].any()


@pytest.mark.parametrize("position", [False, True])
def test_only_positions_let_a_network_see_a_wall(position):
    """On a constant field a network without positions answers a constant; with them it need not."""
    config = FNOConfig(width=6, modes=3, num_layers=2, projection_width=8, latent_points=0, position=position)
    operator = FNO(Signature(("f",), (), ("u",)), config)
    answer = operator(Batch(operator.signature, WALLS, torch.ones(2, 1, 1, 16, 12), torch.zeros(2, 0))).targets
    assert answer.shape == (2, 1, 1, 16, 12)
    spread = answer.std(dim=-2).max()
    assert (spread > 1e-3) if position else (spread < 1e-5)
    assert answer.std(dim=-1).max() < 1e-5  # the other axis has no walls
