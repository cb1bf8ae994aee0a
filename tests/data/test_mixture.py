from __future__ import annotations

import math

import pytest
import torch

from scifm.data.mixtures import Member, MixtureOrigin
from scifm.data.normalize import fit_normalization
from scifm.data.origins import SystemOrigin
from scifm.data.stream import MixtureStream, Part
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.systems import AdvectionDiffusion, Helmholtz, Poisson

GRID = Grid.square(16)
SYSTEMS = [Poisson(), AdvectionDiffusion(), Helmholtz()]


def stream(*weights: float, batch_size: int = 8, **settings) -> MixtureStream:
    settings = {"loss_weights": [1.0] * len(weights), "batch_size": batch_size, "seed": 3, **settings}
    return MixtureStream(SYSTEMS[: len(weights)], GRID, weights=weights, **settings)


def mixture(systems) -> MixtureOrigin:
    return MixtureOrigin(tuple(Member(SystemOrigin.of(system, GRID)) for system in systems))


def test_names_are_joined():
    signature = mixture(SYSTEMS).signature
    assert signature.inputs == ("forcing",)
    assert signature.outputs == ("solution",)
    assert set(signature.coefficients) == {name for system in SYSTEMS for name in system.signature.coefficients}


def test_what_a_system_lacks_is_zero_and_the_rest_is_its_own():
    batch = stream(1, 1, 1, batch_size=9).batch(0)
    for system in SYSTEMS:
        index = [i for i, name in enumerate(batch.systems) if name == system.name]
        part = batch.select(index)
        assert len(index) == 3
        for name in batch.signature.coefficients:
            if name in system.signature.coefficients:
                assert (part.coefficient(name) != 0).all()
            else:
                assert (part.coefficient(name) == 0).all()
        residual = system.residual(part.aligned(batch.signature))
        assert residual.abs().max() < 1e-3 * part.field("forcing").abs().max()


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 5), (1, 1e-3, 1)])
def test_shares_are_exact_in_the_mean_and_within_one_sample_in_every_batch(weights):
    mixture = stream(*weights)
    counts = torch.tensor([mixture.counts(step) for step in range(2000)], dtype=torch.float64)
    expected = 8 * torch.tensor(weights, dtype=torch.float64) / sum(weights)
    assert (counts.sum(1) == 8).all()
    assert ((counts - expected).abs() < 1 + 1e-9).all()
    assert (counts.mean(0) - expected).abs().max() < 0.05


def test_a_step_is_a_function_of_seed_and_number():
    first, again = stream(1, 1).batch(5), stream(1, 1).batch(5)
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, stream(1, 1).batch(6).inputs)
    assert first.num_samples == 8


def test_systems_do_not_share_their_forcings():
    batch = stream(1, 1, batch_size=2).batch(0)
    assert not torch.allclose(batch.inputs[0], batch.inputs[1])


def test_samples_set_aside_are_of_every_system_alike_and_in_no_step():
    mixture = stream(1, 7)
    origin = MixtureOrigin(
        tuple(Member(SystemOrigin.of(system, GRID), w) for system, w in zip(SYSTEMS, (1, 7), strict=False))
    )
    drawn = origin.validation(6, seed=3)
    assert drawn.systems == ("poisson",) * 3 + ("advection_diffusion",) * 3
    assert not torch.equal(drawn.inputs[:1], mixture.batch(0).inputs[:1])


def test_weights_in_the_loss_come_with_the_samples():
    batch = stream(1, 1, loss_weights=[2.0, 1.0], batch_size=4).batch(0)
    assert batch.loss_weights.tolist() == [2.0, 2.0, 1.0, 1.0]


def test_one_normalization_brings_every_system_to_the_sizes_its_own_would():
    mixture = stream(1, 1, 1)
    origin = MixtureOrigin(tuple(Member(SystemOrigin.of(system, GRID)) for system in SYSTEMS))
    normalization = fit_normalization(origin.fitting(3 * 64, seed=3), origin.homogeneities)
    sizes = []
    for system in SYSTEMS:
        batch = system.sample(16, GRID, torch.Generator().manual_seed(0)).aligned(mixture.signature)
        scaled = batch.aligned(mixture.signature)
        encoded = normalization.encode(scaled)
        sizes.append((batch.require_targets() / encoded.output_scale).square().mean().sqrt())
        # an equation times 7 has the same encoded problem, and the answer a seventh of the size
        factors = torch.tensor([7.0] * len(batch.signature.coefficients))
        again = normalization.encode(
            type(batch)(batch.signature, batch.grid, batch.inputs, batch.coefficients * factors, batch.targets)
        )
        torch.testing.assert_close(again.coefficients, encoded.coefficients)
        torch.testing.assert_close(again.output_scale * 7, encoded.output_scale)
    assert max(sizes) < 4 * min(sizes)


def test_a_system_of_a_mixture_is_measured_as_it_is_alone():
    """What it lacks is zero and adds nothing; what it shares with another counts once."""
    for others in ([0, 1], [1, 0], [0, 1, 2], [2, 1, 0]):
        systems = [SYSTEMS[i] for i in others]
        signature, joined = mixture(systems).signature, mixture(systems).homogeneities
        for system in systems:
            batch = system.sample(5, GRID, torch.Generator().manual_seed(0), dtype=torch.float64)
            for mine, ours in zip(system.homogeneities, joined, strict=True):
                torch.testing.assert_close(ours.size(batch.aligned(signature)), mine.size(batch), rtol=1e-15, atol=0)


def test_bad_mixtures_are_refused():
    with pytest.raises(ConfigError, match="at least one member"):
        stream()
    with pytest.raises(ConfigError, match="must be positive"):
        stream(1, 0)
    with pytest.raises(ConfigError, match="must be positive"):
        stream(1, loss_weights=[math.inf])
    with pytest.raises(ConfigError, match="batch_size"):
        stream(1, batch_size=0)


def test_scalings_that_contradict_each_other_are_not_joined():
    one = Homogeneity((("f", 1), ("u", 1)), ("f",), "rms")
    other = Homogeneity((("f", 1), ("u", 2)), ("f",), "rms")
    assert Homogeneity.joined([one, one]) == one
    with pytest.raises(SignatureError, match="different powers"):
        Homogeneity.joined([one, other])


def test_samples_are_brought_into_a_larger_form_and_never_into_a_smaller_one():
    batch = SYSTEMS[0].sample(2, GRID)
    larger = mixture(SYSTEMS).signature
    assert batch.aligned(larger).aligned(larger).signature == larger
    assert batch.aligned(batch.signature) is batch
    with pytest.raises(SignatureError, match="velocity_x, velocity_y would be lost"):
        SYSTEMS[1].sample(2, GRID).aligned(batch.signature)
    warmer = batch.aligned(Signature(("forcing", "temperature"), larger.coefficients, ("solution",)))
    assert warmer.forms == (("forcing", "solution"),)
    assert float(warmer.field("temperature").abs().max()) == 0
    assert warmer.without_absent(batch.signature).present is None


@pytest.mark.parametrize(("blocks", "count"), [(1, 3), (2, 2), (2, 4), (4, 2), (3, 4), (4, 3)])
def test_parts_of_blocks_are_the_batch_and_draw_only_what_they_need(blocks, count, monkeypatch):
    source = stream(1, 2, batch_size=11, blocks=blocks)
    whole, drawn, parts, draw = source.batch(5), [], [], MixtureStream._samples

    for number in range(count):

        def note(self, step, place, index, mine, block, number=number):
            drawn.append((number, block))
            return draw(self, step, place, index, mine, block)

        monkeypatch.setattr(MixtureStream, "_samples", note)
        parts.append(source.batch(5, Part(number, count)))
    drawn = set(drawn)  # of every system
    assert len(drawn) == blocks * count // math.gcd(blocks, count), "a block is drawn that shares nothing"
    found = sorted(row.double().sum().item() for part in parts for row in part.inputs)
    assert found == sorted(row.double().sum().item() for row in whole.inputs)
    assert [whole.systems.count(system.name) for system in SYSTEMS[:2]] == source.counts(5)
    assert {part.num_samples for part in parts} <= {11 // count, -(-11 // count)}
