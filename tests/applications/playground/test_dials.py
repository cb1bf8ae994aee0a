from __future__ import annotations

import math

import pytest

import tiny
from scifm.applications.playground.problems import Dial
from scifm.errors import ConfigError
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson


@pytest.mark.parametrize(
    ("system", "name", "bounds"),
    [
        (Poisson(), "anisotropy", (1, 10)),  # 0.5 is no anisotropy
        (Poisson(anisotropy=Knob(5, 10)), "anisotropy", (2.5, 20)),
        (Poisson(), "angle", (0, 2 * math.pi)),  # a whole turn is all there is
        (Poisson(angle=Knob(-1, 1)), "angle", (-1, 2 * math.pi)),
        (Poisson(anisotropy=Knob(3, 3)), "anisotropy", (1.5, 6)),
        (AdvectionDiffusion(), "advection_diffusion_ratio", (0.1, 2)),
        (Helmholtz(), "wavenumber_shift", (1, 20)),
        (Helmholtz(wavenumber_shift=Knob(1, 10)), "wavenumber_shift", (0.5, 20)),
    ],
)
def test_a_dial_goes_beyond_the_trained_range_as_far_as_the_system_allows(system, name, bounds):
    dial = Dial.of(system, name)
    assert (dial.low, dial.high) == bounds
    assert dial.trained == system.knobs[name]


@pytest.mark.parametrize("name", tiny.STEADY)
def test_every_dial_of_every_system_starts_inside_and_has_values_the_system_takes(name):
    system = tiny.STEADY[name]()
    for knob in system.knobs:
        dial = Dial.of(system, knob)
        assert dial.is_trained(dial.start)
        for value in (dial.low, dial.start, dial.high):
            system.where(**{knob: value})


def test_inside_and_outside_are_told_apart_at_the_very_ends():
    dial = Dial.of(Poisson(), "anisotropy")
    assert dial.is_trained(1.0)
    assert dial.is_trained(5.0)
    assert not dial.is_trained(math.nextafter(5.0, 6.0))
    whole = Dial.of(Helmholtz(), "wavenumber_shift")
    assert whole.is_trained(3.0)
    assert not whole.is_trained(3.5)  # never drawn
    assert not whole.is_trained(11.0)


def test_the_log_scale_starts_at_the_geometric_middle():
    dial = Dial.of(Poisson(anisotropy=Knob(1, 100, scale="log")), "anisotropy")
    assert dial.start == pytest.approx(10, abs=dial.step / 2)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "0.99", "10.01", "1e400", "3;4"])
def test_what_is_no_value_is_refused(text):
    dial = Dial.of(Poisson(), "anisotropy")
    with pytest.raises(ConfigError, match="anisotropy must be a number from 1 to 10"):
        dial.value(text)


def test_a_value_is_taken_as_it_is():
    assert Dial.of(Poisson(), "anisotropy").value("9.9999999999") == 9.9999999999
