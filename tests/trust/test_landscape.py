"""Planes through a loss: its directions, its values, its roughness."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from scifm.errors import ConfigError, DataError
from scifm.findings.figure import Figure
from scifm.report.drawing import draw
from scifm.trust.hessian import Hessian, hessian_of
from scifm.trust.landscape import Landscape, landscape_of, panel_of

CURVED = torch.tensor([9.0, 4.0, 1.0, 0.25], dtype=torch.float64)


def bowl() -> Hessian:
    start = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    return Hessian(lambda w: 1 + (CURVED * w["x"] ** 2).sum() / 2, {"x": start})


def plane(losses) -> Landscape:
    losses = np.asarray(losses, dtype=float)
    a, b = np.arange(losses.shape[1]), np.arange(losses.shape[0])
    return Landscape(a, b, losses, float(losses.min()), np.eye(2), (1.0, 1.0), "steps")


def test_a_quadratic_rises_by_half_its_curvature_times_the_distance_squared():
    found = landscape_of(bowl(), extent=(1.0, 2.0), num_points=5)
    assert found.curvatures == pytest.approx((9, 4))
    assert found.loss == pytest.approx(1.5)
    assert np.abs(found.directions) == pytest.approx(np.eye(4)[:2], abs=1e-9)
    a, b = np.meshgrid(found.a, found.b)
    assert (found.a[-1], found.b[-1]) == (1, 2)
    assert np.allclose(found.losses, 1.5 + 4.5 * a**2 + 2 * b**2)
    assert found.losses[2, 2] == found.loss
    assert found.roughness() == found.roughness(log=False) == 0


def test_directions_of_your_own_are_brought_to_length_one():
    found = landscape_of(bowl(), [np.array([0, 0, 5.0, 0]), np.array([0, 0, 0, 2.0])], num_points=3)
    assert found.curvatures == pytest.approx((1, 0.25))
    assert found.losses[1] == pytest.approx([1.0, 1.5, 3.0])  # x₂ is 0, 1 and 2
    assert found.unit == "distance of weights"


def test_random_directions_have_the_size_of_each_filter_and_leave_biases_alone():
    operator = tiny.operator()
    hessian = hessian_of(operator, tiny.batch(1))
    found = landscape_of(hessian, "random", extent=0.1, num_points=3, seed=4)
    for vector in found.directions:
        named = hessian.tensors(vector)
        for name, weight in operator.named_parameters():
            way = named[f"operator.{name}"]
            own = weight.detach().double().flatten(1) if weight.dim() > 1 else None
            if own is None:
                assert not way.any()
            else:
                assert torch.allclose(way.flatten(1).norm(dim=1), own.norm(dim=1), rtol=1e-6)
    assert not np.allclose(*found.directions)
    assert np.array_equal(found.directions, landscape_of(hessian, "random", num_points=3, seed=4).directions)


def test_complex_weights_may_be_moved():
    turn = torch.complex(torch.ones(2, 3), torch.zeros(2, 3)).to(torch.complex128)
    hessian = Hessian(lambda w: (w["t"].abs() ** 2).sum(), {"t": turn})
    found = landscape_of(hessian, "random", num_points=3)
    assert np.linalg.norm(found.directions[0]) == pytest.approx(np.sqrt(6))
    assert found.curvatures == pytest.approx((2, 2))


def test_roughness_is_what_lines_go_beyond_one_valley():
    assert plane([[4, 2, 1, 3]] * 3).roughness(log=False) == 0
    # each row: down 3, up 2, down 1, up 3: 9 in all, of which 3 + 3 one valley takes; columns go nowhere
    assert plane([[4, 1, 3, 2, 5]] * 3).roughness(log=False) == pytest.approx(1 - (4 + 5 - 2) / 9)
    wave = np.tile([2.0, 1.0], 50)
    assert plane([wave] * 2).roughness(log=False) == pytest.approx(1 - 1 / 99)
    assert plane(np.full((3, 3), 2.0)).roughness() == 0
    assert plane([[10, 1, 10]] * 3).roughness() == 0
    assert plane([[4, 1, np.nan, 2, 5], [4, 1, 3, 2, 5], [4, 1, 3, 2, 5]]).roughness(log=False) == pytest.approx(2 / 9)


def test_roughness_of_nothing_finite_or_of_no_logarithm_is_refused():
    with pytest.raises(DataError, match="no line along which the loss is finite"):
        plane(np.full((3, 3), np.nan)).roughness()
    with pytest.raises(DataError, match="log=False"):
        plane([[1, 0, 1]] * 3).roughness()


def test_a_panel_has_lines_of_equal_loss():
    found = landscape_of(bowl(), extent=1.0, num_points=41)
    panel = panel_of(found, title="a bowl")
    levels = panel.series[:-1]
    assert len(levels) == 6
    for series in levels:
        points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if x is not None]
        values = [1.5 + 4.5 * x**2 + 2 * y**2 for x, y in points]
        assert len(points) > 10
        assert values == pytest.approx([float(series.label)] * len(values), rel=0.06)  # labels have two digits
    assert panel.series[-1].x == (0.0,)
    assert "distance of weights" in panel.x.label
    chosen = panel_of(found, levels=(2.0, 4.0)).series
    assert [series.label for series in chosen[:-1]] == ["2", "4"]
    assert max(x for x in chosen[0].x if x is not None) == pytest.approx(1 / 3, rel=0.02)  # 1.5 + 4.5 a² = 2
    drawn = draw(Figure(caption="A bowl.", panels=(panel,), ordered=True))
    assert drawn.blocks


def test_a_plane_that_is_not_finite_everywhere_is_drawn_where_it_is():
    losses = np.add.outer(np.arange(1.0, 6), np.arange(5.0))
    losses[0, 0] = np.inf
    assert len(panel_of(plane(losses)).series) == 7
    with pytest.raises(DataError, match="nowhere finite"):
        panel_of(plane(np.full((3, 3), np.nan)))
    with pytest.raises(DataError, match="a level is not positive"):
        panel_of(plane(np.ones((3, 3))), levels=(0.0, 1.0))


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"extent": 0.0}, "positive extent"),
        ({"extent": (1.0, -1.0)}, "positive extent"),
        ({"num_points": 2}, "at least 3 points"),
        ({"ways": "steep"}, "ways is 'curvature', 'random', or two vectors; got 'steep'"),
        ({"ways": [np.ones(4)]}, "two vectors"),
        ({"ways": [np.ones(4), np.ones(3)]}, "two vectors"),
        ({"ways": [np.ones(4), np.zeros(4)]}, "not zero"),
        ({"ways": [np.ones(4), -2 * np.ones(4)]}, "the same one"),
        ({"ways": "random"}, "No weight has two axes"),
    ],
)
def test_planes_that_are_none_are_refused(about, words):
    with pytest.raises(ConfigError, match=words):
        landscape_of(bowl(), **about)


def test_one_weight_has_no_plane():
    with pytest.raises(ConfigError, match="at least two weights"):
        landscape_of(Hessian(lambda w: w["x"].square().sum(), {"x": torch.ones(1)}))
