from __future__ import annotations

import pytest

from scifm.errors import ConfigError
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.catalog import system_from_dict
from scifm.systems.forcing import GaussianForcing
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson


@pytest.mark.parametrize(
    "system",
    [
        Poisson(anisotropy=Knob(5, 10)),
        AdvectionDiffusion(ratio="calibrated"),
        Helmholtz(sign="slides", forcing=GaussianForcing(num_centers=3)),
    ],
)
def test_round_trip(system):
    assert system_from_dict(system.to_dict()) == system


def test_a_recipe_may_say_little():
    given = {"name": "helmholtz", "knobs": {"wavenumber_shift": [5, 15]}, "options": {"forcing": {"width": 0.05}}}
    made = system_from_dict(given)
    assert made == Helmholtz(wavenumber_shift=Knob(5, 15, integer=True), forcing=GaussianForcing(width=0.05))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"name": "poison"}, "Did you mean 'poisson'"),
        ({}, "Allowed: acoustic"),
        ({"name": "poisson", "knob": {}}, "Did you mean 'knobs'"),
        ({"name": "poisson", "knobs": {"anisotropi": 1}}, "Did you mean 'anisotropy'"),
        ({"name": "poisson", "knobs": {"anisotropy": [5, 1]}}, "low <= high"),
        ({"name": "helmholtz", "options": {"sing": "code"}}, "Did you mean 'sign'"),
        ({"name": "helmholtz", "options": {"forcing": {"widht": 1}}}, "Did you mean 'width'"),
    ],
)
def test_bad_recipes_say_what_is_allowed(entries, message):
    with pytest.raises(ConfigError, match=message):
        system_from_dict(entries)


def test_a_system_without_a_name_is_not_called_none():
    with pytest.raises(ConfigError, match="this one has none"):
        system_from_dict({"knobs": {}})
