"""Networks of coordinates: their derivatives, what holds by construction, slabs of time, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import pinn
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.derivatives import DifferenceDerivatives
from scifm.fields.grid import Grid
from scifm.models.coordinate import Coordinate, CoordinateConfig, Points
from scifm.models.registry import load_operator, save_operator
from scifm.systems.poisson import Poisson

RING = pinn.convection(points=12, frames=11)
PLANE = pinn.problem("heat", Grid((12, 11), (2.0, 3.0), (True, True)), num_spatial_dims=2, num_frames=5)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"activation": "sin", "periodic": False},
    {"scaled": False, "periodic": False, "initial": "soft"},
    {"frequencies": 3, "bandwidth": 2.0},
    {"harmonics": 4},
    {"slabs": 3},
]


def slope_of(operator: Coordinate, batch: Batch, points: Points, name: str, letter: str, **about: Any) -> torch.Tensor:
    """Return a derivative by differences of sixth order: by turns of the box along x and y, by times along t."""
    weights, step = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}, 1e-3
    dims, found = batch.grid.num_spatial_dims, torch.zeros(1, len(points), dtype=torch.float64)
    for place, weight in weights.items():
        for sign in (1, -1):
            turns = torch.zeros(len(points), dims, dtype=torch.float64)
            times = points.times
            if letter == "t":
                times, size = times + sign * place * step, step
            else:
                axis = dims - 1 - "xyz".index(letter)
                turns[:, axis], size = sign * place * step, step * batch.grid.extent[axis]
            asked = Points(points.places, times, turns)
            found += sign * weight / size * about["value"](operator, asked, name)
    return found


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_first_and_second_derivatives_are_those_of_differences(settings):
    """Of the network alone, which is what places between the points of the grid can be asked of."""
    operator = pinn.network(RING, **{**settings, "initial": "soft"})
    slab = 1 if settings.get("slabs") else 0
    times = torch.linspace(0.35, 0.65, 12, dtype=torch.float64)
    points = Points(torch.arange(12), times, torch.zeros(12, 1, dtype=torch.float64))
    wanted = ["x", "t", "xx", "tt", "tx"]
    fields = operator.at(RING, points, derivatives=wanted, slab=slab)

    def along(axes: str):
        def value(operator: Coordinate, asked: Points, name: str) -> torch.Tensor:
            there = operator.at(RING, asked, derivatives=wanted, slab=slab)
            return (there.along(name, axes) if axes else there.value(name)).detach()

        return value

    for axes, before, letter in (("x", "", "x"), ("t", "", "t"), ("xx", "x", "x"), ("tt", "t", "t"), ("tx", "x", "t")):
        expected = slope_of(operator, RING, points, "tracer", letter, value=along(before))
        torch.testing.assert_close(fields.along("tracer", axes).detach(), expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(fields.along("tracer", "xt"), fields.along("tracer", "tx"))  # any order of letters


@pytest.mark.parametrize("slab", [0, 1])
def test_an_exact_start_is_met_with_all_that_follows_for_derivatives(slab):
    operator = pinn.network(RING, slabs=2, initial="exact")
    soft = pinn.network(RING, slabs=2, initial="soft")
    soft.load_state_dict(operator.state_dict())
    start, begins = operator.start_of(RING, slab), slab / 2
    (x,) = RING.grid.coordinates(dtype=torch.float64)
    if slab == 0:
        torch.testing.assert_close(start[0], torch.sin(x))
    wanted = ["xx", "tt", "tx", "x", "t"]
    times = torch.linspace(begins, begins + 0.5, 12, dtype=torch.float64)
    own = operator.at(RING, Points(torch.arange(12), times), derivatives=wanted, slab=slab, start=start)
    bare = soft.at(RING, Points(torch.arange(12), times), derivatives=wanted, slab=slab)
    s, pace = (times - begins) * 2, 2.0

    def n(axes: str) -> torch.Tensor:
        return bare.along("tracer", axes) if axes else bare.value("tracer")

    waves = torch.fft.rfftfreq(12, 1 / 12, dtype=torch.float64)
    slope = torch.fft.irfft(torch.fft.rfft(start[0]) * 1j * waves * (waves < 6), n=12)
    bend = torch.fft.irfft(torch.fft.rfft(start[0]) * -(waves**2), n=12)
    expected = {
        "": start[0] + s * n(""),
        "x": slope + s * n("x"),
        "xx": bend + s * n("xx"),
        "t": pace * n("") + s * n("t"),
        "tt": 2 * pace * n("t") + s * n("tt"),
        "tx": pace * n("x") + s * n("tx"),
    }
    for axes, value in expected.items():
        found = own.along("tracer", axes) if axes else own.value("tracer")
        torch.testing.assert_close(found, value.expand_as(found), rtol=1e-11, atol=1e-11)
    there = operator.at(RING, Points(torch.arange(12), torch.full((12,), begins).double()), slab=slab, start=start)
    assert torch.equal(there.value("tracer")[0], start[0])


@pytest.mark.parametrize(("periodic", "closes"), [(True, True), (False, False)])
def test_periodic_features_close_with_all_derivatives(periodic, closes):
    operator = pinn.network(PLANE, periodic=periodic, initial="soft", frequencies=2)
    wanted = ["x", "xx", "y", "yy", "xy", "xxxx", "t"]
    places, times = torch.arange(132), torch.full((132,), 0.4 * operator.duration, dtype=torch.float64)
    here = operator.at(PLANE, Points(places, times), derivatives=wanted)
    for axis in (0, 1):
        turns = torch.zeros(132, 2, dtype=torch.long)
        turns[:, axis] = 1
        there = operator.at(PLANE, Points(places, times, turns), derivatives=wanted)
        for axes in ("", *wanted):
            both = (here, there)
            one, other = ((f.along("temperature", axes) if axes else f.value("temperature")).detach() for f in both)
            apart = float((one - other).abs().max() / one.abs().max())
            assert (apart < 1e-10) == closes, (axis, axes, apart)


@pytest.mark.parametrize("ends", ["low", "high", "both"])
def test_what_is_kept_at_walls_is_met_with_all_that_follows_for_derivatives(ends):
    """u = u₀ + s φ N, beside the same network without φ, whose derivatives are torch's."""
    rod = pinn.rod(points=12, slopes=True)
    own, bare = pinn.network(rod, kept={"x": ends}), pinn.network(rod, initial="soft")
    start, wanted = own.start_of(rod, 0), ["x", "xx", "t", "tt", "tx"]
    times = torch.linspace(0.2, 0.9, 12, dtype=torch.float64)
    points = Points(torch.arange(12), times)
    found = own.at(rod, points, derivatives=wanted, start=start)
    n = bare.at(rod, points, derivatives=wanted)
    (x,), s = rod.grid.coordinates(dtype=torch.float64), times
    given, u = DifferenceDerivatives({"heat": start}, rod.grid), n.value("heat")
    f, df, ddf = {"low": (x, 1, 0), "high": (1 - x, -1, 0), "both": (4 * x * (1 - x), 4 - 8 * x, -8)}[ends]
    expected = {
        "": start + s * f * u,
        "x": given.along("heat", "x") + s * (df * u + f * n.along("heat", "x")),
        "xx": given.along("heat", "xx") + s * (ddf * u + 2 * df * n.along("heat", "x") + f * n.along("heat", "xx")),
        "t": f * (u + s * n.along("heat", "t")),
        "tt": f * (2 * n.along("heat", "t") + s * n.along("heat", "tt")),
        "tx": df * (u + s * n.along("heat", "t")) + f * (n.along("heat", "x") + s * n.along("heat", "tx")),
    }
    for axes, value in expected.items():
        there = found.along("heat", axes) if axes else found.value("heat")
        torch.testing.assert_close(there, value, rtol=1e-10, atol=1e-10)
    answer = own(rod).require_targets()[0, :, 0]
    off = (answer - start[0]).detach().abs().amax(0)
    kept = {"low": [0], "high": [-1], "both": [0, -1]}[ends]
    assert [place for place in (0, -1) if float(off[place]) < 1e-14] == kept
    assert float(off[1:-1].min()) > 1e-4
    assert [own.keeps("x", place) for place in (0, -1)] == [place in kept for place in (0, -1)]


def test_in_two_dimensions_what_is_kept_is_of_its_own_axis():
    plane = replace(PLANE, grid=Grid((12, 11), (2.0, 3.0), ("wall", "periodic")))
    operator = pinn.network(plane, kept={"y": "both"})
    answer, start = operator(plane).require_targets()[0, :, 0], operator.start_of(plane, 0)[0]
    off = (answer - start).detach().abs().amax(0)
    assert float(off[[0, -1]].max()) < 1e-14
    assert float(off[1:-1].min()) > 1e-4


def test_in_two_dimensions_x_runs_along_the_last_axis():
    operator = pinn.network(PLANE, periodic=False, scaled=False, initial="soft")
    points = Points(torch.arange(132), torch.full((132,), 0.1 * operator.duration, dtype=torch.float64))
    y, x = torch.meshgrid(*PLANE.grid.coordinates(dtype=torch.float64), indexing="ij")
    seen = torch.stack([x.flatten(), y.flatten(), points.times], dim=1).requires_grad_()
    value = seen
    for place, layer in enumerate(operator.networks[0]):
        value = layer(value if place == 0 else torch.tanh(value))
    fields = operator.at(PLANE, points, derivatives=["x", "y", "xy", "t", "yy"])
    torch.testing.assert_close(fields.value("temperature")[0], value[:, 0])
    (slopes,) = torch.autograd.grad(value.sum(), seen, create_graph=True)
    for column, letter in enumerate("xyt"):
        torch.testing.assert_close(fields.along("temperature", letter)[0], slopes[:, column])
    (bends,) = torch.autograd.grad(slopes[:, 1].sum(), seen)
    torch.testing.assert_close(fields.along("temperature", "xy")[0], bends[:, 0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fields.along("temperature", "yy")[0], bends[:, 1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch", [RING, PLANE], ids=["ring", "plane"])
def test_its_frames_are_its_values_at_their_times(batch):
    operator = pinn.network(batch)
    answer, name = operator(batch).require_targets(), batch.signature.outputs[0]
    assert answer.shape == batch.require_targets().shape
    start, count = operator.start_of(batch, 0), math.prod(batch.grid.num_points)
    for frame, time in enumerate(batch.lead_time[0]):
        points = Points(torch.arange(count), time.expand(count).to(torch.float64))
        expected = operator.at(batch, points, start=start).value(name)
        torch.testing.assert_close(answer[0, frame, 0].flatten(), expected[0])
    for one, other in zip(operator.march(batch, batch.num_frames), answer.unbind(1), strict=True):
        torch.testing.assert_close(one[:, 0], other)


def test_a_slab_starts_where_the_one_before_ends_and_a_seam_is_of_the_one_before():
    operator = pinn.network(RING, slabs=5)
    seams = torch.tensor([0.0, 0.1, 0.2, 0.2 + 1e-7, 0.21, 0.4, 0.6, 0.8, 1.0], dtype=torch.float64)
    assert operator.slab_of(seams).tolist() == [0, 0, 0, 0, 1, 1, 2, 3, 4]
    assert operator.slab_of(seams.float()).tolist() == [0, 0, 0, 0, 1, 1, 2, 3, 4]
    answer, places = operator(RING).require_targets()[0, :, 0], torch.arange(12)
    for slab in range(1, 5):
        start, begins = operator.start_of(RING, slab), torch.full((12,), slab / 5, dtype=torch.float64)
        after = operator.at(RING, Points(places, begins), slab=slab, start=start).value("tracer")[0]
        torch.testing.assert_close(after, answer[2 * slab - 1])  # frames are a tenth apart
        before = operator.at(RING, Points(places, begins), slab=slab - 1, start=operator.start_of(RING, slab - 1))
        torch.testing.assert_close(after, before.value("tracer")[0])
    with torch.no_grad():
        operator.networks[2][0].weight.mul_(2)
    moved = (operator(RING).require_targets()[0, :, 0] - answer).abs().amax(-1) > 1e-9
    assert moved.tolist() == [False] * 4 + [True] * 6, "what lies behind a slab starts from it"


def test_saved_and_loaded_it_is_the_same(tmp_path):
    operator = pinn.network(RING, slabs=2, frequencies=3)
    save_operator(operator, tmp_path)
    again = load_operator(tmp_path)
    assert torch.equal(again(RING).require_targets(), operator(RING).require_targets())
    assert again.config == operator.config
    assert again.duration == pytest.approx(1.0)


OTHER: dict[str, Any] = {
    "width": 7, "num_layers": 3, "activation": "sin", "periodic": False, "scaled": False, "frequencies": 4,
    "bandwidth": 3.0, "harmonics": 3, "initial": "soft", "slabs": 2, "duration": 1.5, "extent": (7.0,),
    "wraps": (False,),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_every_setting_has_an_effect(name):
    assert set(OTHER) | {"history", "lead_time", "engine", "hold", "kept"} >= set(CoordinateConfig.model_fields)
    basis = {"frequencies": 2} if name == "bandwidth" else {}
    answers = [pinn.network(RING, **basis, **more)(RING).require_targets() for more in ({}, {name: OTHER[name]})]
    assert not torch.equal(*answers)


def test_settings_without_effect_are_refused():
    steady = Poisson.signature
    for name in ("initial", "slabs", "duration", "frequencies", "scaled"):
        with pytest.raises(ConfigError, match=rf"{name} = .* would have no effect"):
            Coordinate(steady, CoordinateConfig(**{name: OTHER[name]}))
    Coordinate(steady, CoordinateConfig(frequencies=3, scaled=False, periodic=False))
    with pytest.raises(ValueError, match="what is held is said of whole fields"):
        pinn.network(RING, hold={"mean": {"tracer": 0.0}})
    with pytest.raises(ValueError, match="bandwidth = 3 has no effect without frequencies"):
        CoordinateConfig(bandwidth=3.0)
    with pytest.raises(ValueError, match="harmonics = 3 are of angles"):
        CoordinateConfig(harmonics=3, periodic=False)
    walled = {"wraps": (True, False), "extent": (1.0, 1.0)}
    with pytest.raises(ConfigError, match=r"kept = .* would have no effect: it is for time"):
        Coordinate(steady, CoordinateConfig(kept={"x": "low"}, **walled))
    with pytest.raises(ConfigError, match=r"kept names the axis x, and is for axes that do not wrap.*there is none"):
        pinn.network(RING, kept={"x": "low"})
    with pytest.raises(ConfigError, match=r"kept names the axis y, .*: those are x"):
        pinn.network(pinn.rod(), kept={"y": "low"})
    with pytest.raises(ConfigError, match="set initial = 'exact', or leave kept out"):
        pinn.network(pinn.rod(), kept={"x": "low"}, initial="soft")


def test_what_it_cannot_answer_is_said_in_a_sentence():
    operator = pinn.network(RING)
    late = replace(RING, lead_time=RING.lead_time * 1.2)
    with pytest.raises(SignatureError, match=r"one problem up to the time 1; 1\.2 is asked for.*fewer frames"):
        operator(late)
    both = Batch.concatenate([RING, RING])
    with pytest.raises(SignatureError, match="answers all samples at the same times"):
        operator(replace(both, lead_time=both.lead_time * torch.tensor([[1.0], [0.5]], dtype=torch.float64)))
    with pytest.raises(SignatureError, match="asked at times: give lead_time"):
        operator(replace(RING, targets=None, lead_time=None))
    start = operator.start_of(RING, 0)
    for time, told in ((1.3, "from 0 to 1; a point at the time 1.3 lies outside"), (-0.2, "at the time -0.2")):
        with pytest.raises(SignatureError, match=told):
            operator.at(RING, Points(torch.arange(1), torch.tensor([time]).double()), start=start)
    with pytest.raises(SignatureError, match="times are missing"):
        operator.at(RING, Points(torch.arange(1)), start=start)
    here = Points(torch.arange(1), torch.zeros(1).double())
    with pytest.raises(SignatureError, match=r"'y'; the coordinates are x, t"):
        operator.at(RING, here, derivatives=["yy"], start=start)
    with pytest.raises(SignatureError, match="mixed derivative 'txx' is of order 3"):
        operator.at(RING, here, derivatives=["xxt"], start=start)
    with pytest.raises(SignatureError, match="'xx' of 'tracer' was not asked for"):
        operator.at(RING, here, derivatives=["x"], start=start).along("tracer", "xx")
    with pytest.raises(SignatureError, match="every output of what evolves must be an input too; 'v' is none"):
        Coordinate(Signature(("u",), (), ("u", "v"), 1, evolves=True))
    with pytest.raises(SignatureError, match="starts nowhere"):
        Coordinate(Poisson.signature).start_of(RING, 0)
    with pytest.raises(SignatureError, match="2 numbers, one per axis"):
        Coordinate(Poisson.signature, CoordinateConfig(extent=(1.0,)))
