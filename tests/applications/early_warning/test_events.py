"""Earthquakes: where and how long their faults break, that waves of long ones are sums of waves of their pulses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scifm import Knob
from scifm.applications.early_warning.events import Events, Source, fault_length
from scifm.applications.early_warning.making import EventRecipe, make_events
from scifm.config import build_config
from scifm.data.store import Store
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.rollouts import RolloutRecipe
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for

GRID = Grid((24, 24), 23.0, "open")
QUIET = Events(absorbing_layer=4.0, num_frames=7)


def whole(batch):
    """Return trajectories ``(event, frame, direction, y, x)``."""
    return torch.cat([batch.inputs, batch.targets], dim=1)


def test_longer_faults_belong_to_larger_magnitudes():
    assert fault_length(7.0) == pytest.approx(48.98, abs=0.01)
    assert fault_length(5.0) == pytest.approx(3.236, abs=0.001)


def test_sources_lie_where_they_may_and_share_their_moment():
    events = replace(QUIET, magnitude=Knob(4.0, 5.8))
    for source in events.draw(40, GRID, generator_for(0, "sources")):
        places = torch.tensor(source.places)
        assert bool((places >= 6.0 - 1e-9).all() and (places <= 17.0 + 1e-9).all())
        assert source.frames == tuple(range(len(source.places)))
        assert source.height * len(source.places) == pytest.approx(10 ** (1.5 * (source.magnitude - 4)))
        step = 0.8 * 3.0
        assert len(source.places) == max(1, round(fault_length(source.magnitude) / step))
        apart = (places[1:] - places[:-1]).norm(dim=1)
        assert torch.allclose(apart, torch.full_like(apart, step), atol=1e-5)


def test_a_rupture_is_the_sum_of_its_pulses_each_in_its_time():
    places = ((8.0, 8.0), (10.0, 9.0), (12.0, 10.0))
    fault = Source(5.0, places, (0, 1, 3), 0.5)
    events = replace(QUIET, num_frames=6)
    together = whole(events.record([fault], GRID, dtype=torch.float64))
    expected = torch.zeros_like(together)
    for place, frame in zip(places, fault.frames, strict=True):
        alone = whole(events.record([Source(5.0, (place,), (0,), 0.5)], GRID, dtype=torch.float64))
        expected[:, frame:] += alone[:, : 6 - frame]
    assert float(expected.abs().max()) > 1e-2
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-9)


def test_the_front_goes_out_at_the_speed_of_the_region():
    uniform = replace(QUIET, contrast=0.0, num_frames=4)
    grid = Grid((48, 48), 47.0, "open")
    waves = whole(uniform.record([Source(4.0, ((24.0, 24.0),), (0,), 1.0)], grid))
    for frame in (2, 3):
        along = waves[0, frame, 0, 24, 24:]  # velocity along x, to the right of the source
        assert abs(int(along.argmax()) - 3.0 * frame) <= 1
    # a pulse of pressure drives the same velocity in every direction
    torch.testing.assert_close(waves[0, :, 0, 24, 24:], waves[0, :, 1, 24:, 24], rtol=1e-4, atol=1e-5)


def test_a_region_is_one_medium_and_another_is_another():
    first, again, other = (replace(QUIET, region=number).speed(GRID) for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert float(first.log().mean()) == pytest.approx(math.log(3.0), abs=0.1)


@pytest.mark.parametrize(
    ("change", "grid", "error", "told"),
    [
        ({"physics": "viscous"}, GRID, ConfigError, "Physics of events"),
        ({"contrast": 1.0}, GRID, ConfigError, "contrast"),
        ({"pulse_width": 0.0}, GRID, ConfigError, "pulse_width > 0"),
        ({}, Grid((24, 24), 23.0), SignatureError, "open ends; the grid's are periodic"),
        ({"pulse_width": 1.0}, GRID, SignatureError, "give pulse_width = 2 or more"),
        ({"absorbing_layer": 10.0}, GRID, SignatureError, "leave no room for sources"),
        ({"magnitude": Knob(7.0, 7.0)}, GRID, ConfigError, "magnitude 7.00 breaks 49 km"),
    ],
)
def test_what_cannot_be_is_refused(change, grid, error, told):
    with pytest.raises(error, match=told):
        replace(QUIET, **change).sample(2, grid, generator_for(0, "refused"))


def test_what_has_no_room_begins_no_store(tmp_path):
    recipe = build_config(EventRecipe, {"magnitude": [7, 7.5], "num_events": 2}, source="test")
    with pytest.raises(ConfigError, match=r"magnitude 7\.50 breaks 97 km"):
        make_events(recipe, tmp_path / "events")
    assert not (tmp_path / "events").exists()


def test_a_record_does_not_say_what_comes_next():
    batch = QUIET.sample(1, GRID, generator_for(0, "next"))
    with pytest.raises(SignatureError, match="does not say what comes next"):
        QUIET.solve(batch)


def test_a_store_of_them_is_like_any_other(tmp_path):
    settings = {"num_points": 24, "absorbing_layer": 4.0, "num_frames": 5, "num_events": {"train": 3, "test": 2}}
    recipe = build_config(EventRecipe, {**settings, "magnitude": [4, 4.2]}, source="test")
    store = make_events(recipe, tmp_path / "events")
    assert Store.open(store.path).splits == {"train": 3, "test": 2}
    assert store.grid == GRID
    assert store.signature.inputs == ("velocity_x", "velocity_y")
    batch = store.split("train").batch([0])
    assert float(batch.targets.abs().max()) > 0
    again = make_events(recipe, tmp_path / "events")
    assert again.content == store.content
    assert RolloutRecipe(store=str(store.path), steps=2).source().path == store.path


def test_elastic_waves_come_in_two_speeds():
    pytest.importorskip("deepwave", reason="the extra 'waves' is not installed")
    grid = Grid((48, 48), 47.0, "open")
    uniform = replace(QUIET, physics="elastic", contrast=0.0, num_frames=8)
    waves = whole(uniform.record([Source(4.0, ((24.0, 24.0),), (0,), 1.0)], grid))[0]
    begins = 2.5 * uniform.pulse_width / uniform.mean_speed  # waves far away are slopes of the source, which come first
    shear = waves[:, 1, 24, 24 + 12].abs().argmax()  # across x, on x: shear alone
    assert int(shear) == pytest.approx(begins + 12 / 3.0, abs=1.2)
    slant = (waves[:, 0] + waves[:, 1])[:, 24 + 12, 24 + 12].abs().argmax()  # along the diagonal: compression alone
    assert int(slant) == pytest.approx(begins + 12 * math.sqrt(2) / (3.0 * math.sqrt(3)), abs=1.2)
    assert float(waves[:, 0, 24, 24 + 8 :].abs().max()) < 0.3 * float(waves[:, 1, 24, 24 + 8 :].abs().max())


def test_elastic_waves_ask_for_their_package(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "deepwave", None)
    recipe = build_config(EventRecipe, {"physics": "elastic", "num_events": 2}, source="test")
    with pytest.raises(ConfigError, match=r"scifm\[waves\]"):
        make_events(recipe, tmp_path / "events")
    assert not (tmp_path / "events").exists()
