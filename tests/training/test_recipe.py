from __future__ import annotations

import tomllib

import pytest
from pydantic import ValidationError

from scifm.config import build_config, dump_toml
from scifm.data.origin_config import DataConfig, SystemConfig
from scifm.errors import ConfigError
from scifm.models import OPERATORS
from scifm.models.fno import FNOConfig
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import ModelConfig, PretrainRecipe


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
    with pytest.raises(ConfigError, match="num_points, extent and boundary do not make a box"):
        DataConfig(**data).grid(2)


def test_a_model_is_a_size_or_a_network_and_not_both():
    assert ModelConfig().resolve() == ModelConfig(size="small").resolve()
    network = FNOConfig(width=5)
    assert ModelConfig(network=network).resolve() == network
    with pytest.raises(ConfigError, match="either size or network, not both"):
        build_config(ModelConfig, {"size": "tiny", "network": {}})
    with pytest.raises(ConfigError, match=r"size 'tinny' is unknown\. Did you mean 'tiny'"):
        build_config(ModelConfig, {"size": "tinny"})
    with pytest.raises(ConfigError, match=r"Size 'tinny' is unknown\. Did you mean 'tiny'"):
        FNOConfig.of_size("tinny")


def test_recipes_cannot_be_changed_by_accident():
    with pytest.raises(ValidationError):
        SystemConfig.of(Poisson()).name = "other"


NEURALOP = {"kind": "neuralop_fno", "network": {"n_modes": [4, 4], "hidden_channels": 4}}
MODULE = {"kind": "module", "network": {"target": "torch.nn:Conv2d", "arguments": {"out_channels": 1}}}


@pytest.mark.parametrize("tree", [NEURALOP, MODULE, {}, {"size": "tiny"}], ids=str)
def test_a_model_of_any_kind_is_told_and_read_again(tree):
    model = build_config(ModelConfig, tree)
    assert type(model.resolve()) is OPERATORS[model.kind].config_class
    assert build_config(ModelConfig, tomllib.loads(dump_toml(model.to_dict()))) == model
    given = ModelConfig(network=model.resolve())
    assert (given.kind, given.resolve()) == (model.kind, model.resolve())


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"kind": "neuralop"}, r"'model.kind' = 'neuralop': Kind of operator .* Did you mean 'neuralop_fno'"),
        ({"kind": "fno", "network": {"widht": 3}}, r"in \[model.network\] 'widht' is unknown. Did you mean 'width'"),
        ({"network": {"width": "wide"}}, r"'model.network.width' = 'wide'"),
        ({**NEURALOP, "network": {"n_mode": [4]}}, r"in \[model.network\] 'n_mode' is unknown. Did you mean 'n_modes'"),
        ({**NEURALOP, "size": "tiny"}, "a 'neuralop_fno' comes in no sizes"),
        ({"kind": "module"}, r"needs its settings: give \[model.network\]"),
        ({"kind": "module", "network": 3}, "'model.network' = 3"),
        ({"kind": "module", "network": FNOConfig()}, "takes a ModuleConfig; got a FNOConfig"),
    ],
)
def test_kinds_and_settings_that_do_not_fit_are_told_in_one_line(tree, told):
    with pytest.raises(ConfigError, match=told) as caught:
        build_config(PretrainRecipe, {"model": tree})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
