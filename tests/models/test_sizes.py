from __future__ import annotations

from itertools import pairwise

import pytest

from scifm.errors import ConfigError
from scifm.models.fno import FNO, SIZES, FNOConfig
from scifm.systems.poisson import Poisson


def test_the_dial_grows_the_model():
    counts = [FNO(Poisson.signature, FNOConfig.of_size(size)).num_params for size in ("tiny", "small", "base", "large")]
    assert counts == sorted(counts)
    for small, large in pairwise(counts):
        assert large > 1.5 * small


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_a_valid_network(size):
    config = FNOConfig.of_size(size)
    assert config.width == SIZES[size]
    assert config.latent_points >= 2 * config.modes


def test_the_named_number_of_parameters_holds():
    """The docstring's formula: spectral weights 4·(2m)·m·w²·2 dominate."""
    config = FNOConfig.of_size("base")
    spectral = config.num_layers * 2 * (2 * config.modes * config.modes) * config.width**2
    assert spectral / FNO(Poisson.signature, config).num_params == pytest.approx(1, abs=0.01)


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        FNOConfig.of_size("smal")
