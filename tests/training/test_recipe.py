from __future__ import annotations

import pytest
from pydantic import ValidationError

from scifm.config import build_config
from scifm.errors import ConfigError
from scifm.models.fno import FNOConfig
from scifm.systems.poisson import Poisson
from scifm.training.recipe import DataConfig, ModelConfig, SystemConfig


def test_a_system_is_built_with_its_knobs_and_options():
    config = SystemConfig(name="helmholtz", knobs={"wavenumber_shift": [2, 5]}, options={"sign": "slides"})
    system = config.build()
    assert (system.name, system.sign, system.knobs["wavenumber_shift"].high) == ("helmholtz", "slides", 5)
    assert SystemConfig.of(system).build() == system


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"name": "poison"}, "Did you mean 'poisson'"),
        ({"name": "poisson", "knobs": {"anisotropi": [1, 2]}}, "Did you mean 'anisotropy'"),
        ({"name": "poisson", "knobs": {"anisotropy": [5, 1]}}, "low=5, high=1. Swap them"),
        ({"name": "helmholtz", "options": {"sgin": "code"}}, "Did you mean 'sign'"),
    ],
)
def test_a_system_that_is_not_there_is_refused(entries, words):
    with pytest.raises(ConfigError, match=words):
        SystemConfig(**entries).build()


def test_grids_of_one_number_or_one_an_axis():
    assert DataConfig(num_points=16).grid(2).num_points == (16, 16)
    grid = DataConfig(num_points=(16, 24), extent=(1.0, 1.5)).grid(2)
    assert (grid.num_points, grid.extent, grid.periodic) == ((16, 24), (1.0, 1.5), (True, True))


@pytest.mark.parametrize(
    "data", [{"num_points": (16,)}, {"extent": (1.0, 1.0, 1.0)}, {"num_points": 1}, {"extent": -1.0}]
)
def test_grids_that_do_not_fit_are_refused(data):
    with pytest.raises(ConfigError, match=r"data\.num_points and data\.extent"):
        DataConfig(**data).grid(2)


def test_a_model_is_a_size_or_a_network_and_not_both():
    assert ModelConfig().resolve() == ModelConfig(size="small").resolve()
    network = FNOConfig(width=5)
    assert ModelConfig(network=network).resolve() == network
    with pytest.raises(ConfigError, match="either size or network, not both"):
        build_config(ModelConfig, {"size": "tiny", "network": {}})
    with pytest.raises(ConfigError, match="Did you mean 'tiny'"):
        ModelConfig(size="tinny").resolve()


def test_recipes_cannot_be_changed_by_accident():
    with pytest.raises(ValidationError):
        SystemConfig.of(Poisson()).name = "other"
