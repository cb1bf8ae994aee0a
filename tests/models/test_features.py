"""Features of samples: the same whatever stands beside them, blind to where things lie, and silent where nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import networks
import tiny
from scifm.data.normalize import fit_normalization
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import generator_for
from scifm.models.axial_transformer import AxialTransformer, AxialTransformerConfig
from scifm.models.continuous import Continuous, ContinuousConfig
from scifm.models.conv_recurrent import ConvRecurrent, ConvRecurrentConfig
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.features import chosen_stage, feature_names, features_of, with_coefficients_hidden
from scifm.models.fno import FNO, FNOConfig
from scifm.models.in_context import InContext, InContextConfig
from scifm.models.module_operator import ModuleOperator
from scifm.models.neuralop_fno import NeuralopFNO, NeuralopFNOConfig
from scifm.models.operator import Operator
from scifm.models.recurrent import Recurrent, RecurrentConfig
from scifm.models.registry import OPERATORS
from scifm.models.unet import UNet, UNetConfig
from scifm.systems.burgers import Burgers
from scifm.systems.heat import Heat
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson

AXIAL = AxialTransformerConfig(width=16, num_heads=2, num_blocks=2, patch=4, condition_width=8)


def fno(signature=Poisson.signature, **network):
    return FNO(signature, FNOConfig(**{**tiny.NETWORK, **network}))


def of_kind(kind: str, signature: Signature = Poisson.signature, *, history: int = 1) -> Operator:
    torch.manual_seed(0)
    frames = {"history": history} if history > 1 else {}
    if kind == "fno":
        return fno(signature, **frames)
    if kind == "unet":
        return UNet(signature, UNetConfig(width=4, levels=3, blocks=2, projection_width=8, **frames))
    if kind == "axial_transformer":
        return AxialTransformer(signature, AXIAL.model_copy(update=frames))
    if kind == "in_context":
        return InContext(signature, InContextConfig(**{**AXIAL.to_dict(), **frames}))
    if kind == "continuous":
        return Continuous(signature, ContinuousConfig(**tiny.NETWORK))
    if kind == "neuralop_fno":
        modes = (6,) * signature.num_spatial_dims
        return NeuralopFNO(signature, NeuralopFNOConfig(n_modes=modes, hidden_channels=4, n_layers=2))
    if kind == "ensemble":
        own = FNOConfig(**{**tiny.NETWORK, **frames})
        return Ensemble(signature, EnsembleConfig(member=own, num_members=2, num_heads=2))
    if kind == "conv_recurrent":
        return ConvRecurrent(signature, ConvRecurrentConfig(width=6, halvings=1, peepholes=False, **frames))
    if kind == "recurrent":
        return Recurrent(signature, RecurrentConfig(width=5, **frames))
    channels = len(signature.inputs) + len(signature.coefficients)
    return ModuleOperator.wrap(networks.GlobalNet(channels, len(signature.outputs)), signature)


KINDS = {
    "fno": 4,
    "unet": 16,
    "axial_transformer": 16,
    "in_context": 16,
    "continuous": 4,
    "neuralop_fno": 4,
    "module": 6,
    "ensemble": 4,
    "recurrent": 5,
    "conv_recurrent": 6,
}
"""Channels that each has where its features are taken."""

every_kind = pytest.mark.parametrize("kind", KINDS)


def test_every_kind_of_operator_says_where_its_channels_are():
    assert set(KINDS) == {kind for kind, cls in OPERATORS.items() if not cls.knows_one_problem}


@pytest.mark.parametrize("kind", [kind for kind, cls in OPERATORS.items() if cls.knows_one_problem])
def test_what_knows_one_problem_has_no_features_of_samples_and_says_so(kind):
    operator = OPERATORS[kind](Poisson.signature, OPERATORS[kind].config_class())
    with pytest.raises(ConfigError, match=rf"'{kind}' does not say how its hidden channels lie"):
        features_of(operator, tiny.batch(2))


def rolled(batch: Batch, shift: tuple[int, ...]) -> Batch:
    return replace(batch, inputs=batch.inputs.roll(shift, tuple(range(-len(shift), 0))), targets=None)


@every_kind
def test_means_and_sizes_of_every_channel_whatever_stands_beside_a_sample(kind):
    operator, batch = of_kind(kind), tiny.batch(7)
    features = features_of(operator, batch)
    assert features.shape == (7, 2 * KINDS[kind])
    assert features.dtype == batch.inputs.dtype
    assert not features.requires_grad
    means, sizes = features.chunk(2, dim=1)
    assert (sizes >= means.abs() * (1 - 1e-5)).all()
    assert features.std(0).max() > 1e-4
    for other in (features_of(operator, batch, batch_size=3), features_of(operator, batch.with_targets(None))):
        torch.testing.assert_close(other, features, rtol=1e-4, atol=1e-5)
    order = [3, 0, 6, 1, 5, 2, 4]
    torch.testing.assert_close(features_of(operator, batch.select(order)), features[order], rtol=1e-4, atol=1e-5)


def test_they_are_those_of_the_channels_behind_the_last_fourier_layer():
    operator, batch = fno(latent_points=0), tiny.batch(3)
    encoded = operator.normalization.encode(batch)
    hidden = operator.lift(encoded.inputs[:, 0], encoded.coefficients)
    places = []
    for layer in operator.layers:
        hidden = layer(hidden)
        places.append(hidden.clone())  # (y, x, batch, channel)
    for stage, channels in enumerate(places):
        expected = torch.cat([channels.mean((0, 1)), channels.square().mean((0, 1)).sqrt()], dim=1)
        torch.testing.assert_close(features_of(operator, batch, stage=stage), expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features_of(operator, batch), features_of(operator, batch, stage=-1))
    assert feature_names(4) == ("mean_0", "mean_1", "rms_0", "rms_1")


def test_of_a_strangers_network_they_are_what_goes_into_its_last_part():
    operator, batch = of_kind("module"), tiny.batch(2)
    module, encoded = operator.module, operator.normalization.encode(batch)
    constants = encoded.coefficients[:, :, None, None].expand(-1, -1, 16, 16)
    hidden = torch.tanh(module.first(torch.cat([encoded.inputs[:, 0], constants], 1)))
    hidden = torch.tanh(hidden + module.mean(hidden.mean((-2, -1)))[..., None, None])
    expected = torch.cat([hidden.mean((2, 3)), hidden.square().mean((2, 3)).sqrt()], dim=1)
    torch.testing.assert_close(features_of(operator, batch), expected.detach())
    inside = ModuleOperator.wrap(nn.Sequential(networks.GlobalNet(4, 1)), Poisson.signature)  # one part, with parts
    assert features_of(inside, batch).shape == (2, 12)


@pytest.mark.parametrize("shift", [(0, 1), (5, 3), (8, 11)])
def test_on_a_periodic_box_an_fno_does_not_know_where_things_lie(shift):
    operator = fno(latent_points=0).double()
    batch = tiny.batch(4, dtype=torch.float64)
    there, here = features_of(operator, rolled(batch, shift)), features_of(operator, batch)
    torch.testing.assert_close(there, here, rtol=1e-10, atol=1e-10)


def test_a_transformer_does_not_know_by_whole_patches():
    operator = of_kind("axial_transformer").double()
    batch = tiny.batch(4, dtype=torch.float64)
    here = features_of(operator, batch)
    torch.testing.assert_close(features_of(operator, rolled(batch, (4, 8))), here, rtol=1e-9, atol=1e-10)
    assert (features_of(operator, rolled(batch, (1, 2))) - here).abs().max() > 1e-6


@pytest.mark.parametrize("kind", ["fno", "unet", "axial_transformer"])
def test_of_several_frames_the_last_one_counts_and_what_is_asked_for_does_not(kind):
    system = Burgers(num_frames=5)
    operator = of_kind(kind, system.signature, history=2)
    drawn = system.sample(3, Grid.square(16, num_spatial_dims=1), generator_for(0, "frames"))
    frames = torch.cat([drawn.inputs, drawn.targets], dim=1)
    asked = replace(drawn, inputs=frames[:, :2], targets=frames[:, 2:4], lead_time=drawn.lead_time[:, :2].contiguous())
    features = features_of(operator, asked)
    torch.testing.assert_close(features_of(operator, replace(asked, targets=-frames[:, 2:4])), features)
    one = replace(asked, targets=frames[:, 2:3], lead_time=asked.lead_time[:, :1])
    torch.testing.assert_close(features_of(operator, one), features)
    assert (features_of(operator, replace(asked, inputs=frames[:, 1:3])) - features).abs().max() > 1e-5


@every_kind
def test_hidden_coefficients_tell_nothing(kind):
    operator, batch = of_kind(kind), tiny.batch(4)
    other = replace(batch, coefficients=batch.coefficients.flip(0) * 3)
    assert (features_of(operator, other) - features_of(operator, batch)).abs().max() > 1e-4
    torch.testing.assert_close(features_of(operator, other, blind=True), features_of(operator, batch, blind=True))


def test_nor_does_a_time_that_is_measured_in_units_of_them():
    """The heat equation's lead time, in units of each sample's diffusivity, is that diffusivity."""
    system = Heat(num_spatial_dims=1, num_frames=2)
    batch = system.sample(8, Grid.square(16, num_spatial_dims=1), generator_for(0, "hidden"))
    normalization = fit_normalization(batch, system.homogeneities)
    operator = FNO(system.signature, FNOConfig(**tiny.NETWORK, lead_time=True), normalization=normalization)
    other = replace(batch, coefficients=batch.coefficients * 5)
    assert (features_of(operator, other) - features_of(operator, batch)).abs().max() > 1e-4
    torch.testing.assert_close(features_of(operator, other, blind=True), features_of(operator, batch, blind=True))


def test_hidden_coefficients_are_zero_to_a_network_and_fields_stay():
    batch = tiny.batch(4)
    normalization = Normalization.identity(num_inputs=1, num_coefficients=3, num_outputs=1)
    hidden = with_coefficients_hidden(batch, normalization)
    assert normalization.encode(hidden).coefficients.abs().max() == 0
    torch.testing.assert_close(normalization.encode(hidden).inputs, normalization.encode(batch).inputs)
    names = Signature(("f",), (), ("u",))
    bare = Batch(names, tiny.GRID, batch.inputs, torch.zeros(4, 0))
    assert (
        with_coefficients_hidden(bare, Normalization.identity(num_inputs=1, num_coefficients=0, num_outputs=1)) is bare
    )


def test_the_operator_stays_as_it_was():
    operator = tiny.dropping_operator().train()
    part = next(module for module in operator.modules() if isinstance(module, nn.Conv2d))
    part.eval()
    modes = [module.training for module in operator.modules()]
    batch = tiny.batch(3)
    first = features_of(operator, batch) if chosen_stage(operator, 0) == 0 else None
    torch.testing.assert_close(features_of(operator, batch), first)  # dropout is off
    assert [module.training for module in operator.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in operator.modules())


class Silent(FNO):
    def hidden(self):
        return None


def test_what_cannot_be_looked_at_is_said():
    operator, batch = fno(), tiny.batch(2)
    for stage in (2, -3):
        with pytest.raises(ConfigError, match=rf"no stage {stage}: .* 'fno' has 2 stages, 0 to 1, or −1"):
            features_of(operator, batch, stage=stage)
    with pytest.raises(ConfigError, match=r"does not say how its hidden channels lie.*hidden\(\)"):
        features_of(Silent(Poisson.signature, FNOConfig(**tiny.NETWORK)), batch)
    with pytest.raises(ConfigError, match="no parts to look between"):
        features_of(ModuleOperator.wrap(networks.ExactPoisson(), Poisson.signature), batch)
    with pytest.raises(SignatureError, match="at least one sample"):
        features_of(operator, batch.select([]))
    with pytest.raises(SignatureError, match="wavenumber_shift"):
        features_of(operator, Helmholtz().sample(2, tiny.GRID))
    idle = ModuleOperator.wrap(networks.Idle(4, 1), Poisson.signature)  # its last part is used by nobody
    with pytest.raises(ConfigError, match="does not use its part Linear"):
        features_of(idle, batch)


def test_channels_that_lie_otherwise_than_said_are_refused():
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(4, 3, 1), nn.Linear(3, 1)

        def forward(self, x):
            return self.last(self.first(x).mean((-2, -1)))[..., None, None].expand(-1, 1, *x.shape[-2:])

    with pytest.raises(SignatureError, match=r"\(batch, channel, space, space\); .* \(2, 3\)"):
        features_of(ModuleOperator.wrap(Flat(), Poisson.signature), tiny.batch(2))
