"""Spectra of weights: fits and noise by numbers that are known, complex layers, distances; beside weightwatcher."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch
from torch import nn

import networks
import tiny
from scifm.fields.batch import Signature
from scifm.models.axial_transformer import AxialTransformer, AxialTransformerConfig
from scifm.models.module_operator import ModuleOperator
from scifm.models.parts.centered_spectral import CenteredSpectral
from scifm.models.parts.depthwise import Depthwise
from scifm.models.parts.matrices import matrices_of
from scifm.models.parts.patches import LastStage
from scifm.models.parts.spectral import FourierLayer
from scifm.models.unet import UNet, UNetConfig
from scifm.systems.poisson import Poisson
from scifm.trust.heavy_tails import fit_tail
from scifm.trust.random_matrices import bulk_variance, edges, largest_of_noise, median_of_noise
from scifm.trust.spectra import compare, left_out, spectra_of

# --- the fit ----------------------------------------------------------------------------------------------------------


def _spiked() -> np.ndarray:
    """Return numbers without a tail, and behind them the quantiles of a power law of exponent 3."""
    return np.concatenate([np.linspace(0.05, 1, 200), (1 - (np.arange(100) + 0.5) / 100) ** -0.5])


@pytest.mark.parametrize(
    ("values", "alpha", "x_min", "distance", "num_tail"),
    [
        (10 * np.arange(1, 101) ** -0.5, 3.0665930, 1.0, 0.0120484, 100),
        (1000 / np.arange(1, 1001), 2.0043921, 1.0, 0.00161223, 1000),
        (_spiked(), 3.016297, 0.947487, 0.005986, 112),
    ],
)
def test_the_fit_is_that_of_weightwatcher_0_7_7_and_powerlaw_2_0(values, alpha, x_min, distance, num_tail):
    told = fit_tail(np.random.default_rng(0).permutation(values))
    assert told.alpha == pytest.approx(alpha, rel=1e-6)
    assert told.x_min == pytest.approx(x_min, rel=1e-5)
    assert told.distance == pytest.approx(distance, rel=1e-4)
    assert (told.num_tail, told.num_values) == (num_tail, values.size)
    assert told.sigma == (told.alpha - 1) / math.sqrt(num_tail)
    assert told.survival(np.array([told.x_min]))[0] == num_tail / values.size


def test_few_of_many_beginnings_find_the_same_law():
    """Beyond 2,000 numbers not all beginnings are tried; the exponent is within its error of that of all of them."""
    draws = np.random.default_rng(0).pareto(1.5, 6000) + 1
    told = fit_tail(draws)
    assert abs(told.alpha - 2.5) < 3 * told.sigma
    assert told.distance < 1.5 / math.sqrt(told.num_tail)
    scaled = fit_tail(1e-9 * draws)
    assert (scaled.alpha, scaled.num_tail) == (pytest.approx(told.alpha, rel=1e-9), told.num_tail)


def test_numbers_that_have_no_tail_are_told_so():
    assert fit_tail(np.ones(20)) is None
    assert fit_tail(np.array([])) is None
    for odd in ([0.0, 1.0], [-1.0, 1.0], [1.0, math.inf], [1.0, math.nan]):
        with pytest.raises(ValueError, match="positive, finite"):
            fit_tail(np.array(odd))


# --- noise ------------------------------------------------------------------------------------------------------------


def test_the_end_of_noise_and_one_spike_beyond_it():
    """1000 × 250 Gaussian: the law says 2.25 N; a direction of strength 80 is one spike where theory puts it."""
    rows, columns = 1000, 250
    weight = np.random.default_rng(0).standard_normal((rows, columns))
    eigenvalues = np.linalg.svd(weight, compute_uv=False) ** 2
    assert edges(rows, columns)[1] / rows == pytest.approx(2.25)
    assert edges(rows, columns, bulk_variance(eigenvalues, rows, columns))[1] / rows == pytest.approx(2.25, rel=0.01)
    assert eigenvalues.max() / eigenvalues.sum() * columns == pytest.approx(2.2087, abs=1e-4)
    (noise,) = spectra_of(_of(weight))
    assert (noise.num_spikes, noise.soft_rank) == (0, pytest.approx(1.0, abs=0.02))
    assert noise.tail.alpha > 4, "noise has an exponent too"
    assert noise.tail.distance > 0.05, "and this is what tells that it is none"

    generator, theta = np.random.default_rng(1), 80.0
    u, v = (x / np.linalg.norm(x) for x in (generator.standard_normal(rows), generator.standard_normal(columns)))
    (spiked,) = spectra_of(_of(weight + theta * np.outer(u, v)))
    where = (theta**2 + rows) * (theta**2 + columns) / theta**2  # Baik, Ben Arous & Péché
    assert spiked.num_spikes == 1
    assert spiked.largest == pytest.approx(where, rel=0.03)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (300, 100)])
def test_the_median_of_noise_and_how_seldom_it_goes_beyond(rows, columns):
    generator = np.random.default_rng(0)
    for is_complex in (False, True):
        beyond, medians = 0, []
        for _ in range(40):
            weight = generator.standard_normal((rows, columns))
            if is_complex:
                weight = (weight + 1j * generator.standard_normal((rows, columns))) / math.sqrt(2)
            eigenvalues = np.linalg.svd(weight, compute_uv=False) ** 2
            beyond += eigenvalues.max() > largest_of_noise(rows, columns, is_complex=is_complex)
            medians.append(np.median(eigenvalues))
        assert beyond == 0
        assert np.mean(medians) == pytest.approx(median_of_noise(rows, columns), rel=0.02)
    assert largest_of_noise(rows, columns) > largest_of_noise(rows, columns, is_complex=True) > edges(rows, columns)[1]


# --- layers -----------------------------------------------------------------------------------------------------------


class _Maps(nn.Module):
    def __init__(self, weights) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(weight.shape[1], weight.shape[0], bias=False) for weight in weights)
        with torch.no_grad():
            for own, weight in zip(self.maps, weights, strict=True):
                own.weight.copy_(torch.as_tensor(weight))

    def forward(self, x):
        return x[:, :1]


def _of(*weights: np.ndarray) -> ModuleOperator:
    return ModuleOperator.wrap(_Maps(weights).double(), Poisson.signature)


def _with_tails(count: int) -> list[np.ndarray]:
    """Return matrices of known singular values: squared, quantiles of power laws of exponents from 1.8 to 4."""
    generator, found = np.random.default_rng(0), []
    for number, alpha in enumerate(np.linspace(1.8, 4.0, count)):
        rows, columns = ((120, 80), (64, 64), (50, 150))[number % 3]
        short = min(rows, columns)
        eigenvalues = (1 - (np.arange(short) + 0.5) / short) ** (-1 / (alpha - 1))
        u, v = (np.linalg.qr(generator.standard_normal((n, short)))[0] for n in (rows, columns))
        found.append((u * np.sqrt(eigenvalues)) @ v.T)
    return found


def test_layers_of_known_tails():
    for weight, alpha, told in zip(
        *(_with_tails(5), np.linspace(1.8, 4.0, 5), spectra_of(_of(*_with_tails(5)))), strict=True
    ):
        # the left of its steps is compared, so the exponents of quantiles come out a little high
        assert told.alpha == pytest.approx(alpha, rel=0.06)
        squares = np.linalg.svd(weight, compute_uv=False) ** 2
        assert told.stable_rank == pytest.approx(squares.sum() / squares[0])
        assert told.log_norm == pytest.approx(np.log10(np.sum(weight**2)))
        assert told.log_spectral_norm == pytest.approx(np.log10(squares[0]))
        assert told.alpha_hat == pytest.approx(told.alpha * np.log10(squares[0]))
        assert told.log_alpha_norm == pytest.approx(np.log10(np.sum(squares**told.alpha)))
        assert told.even_tail.alpha == pytest.approx(told.alpha), "one matrix has one scale"
        assert told.mean_stable_rank == pytest.approx(told.stable_rank)


@pytest.mark.skipif(importlib.util.find_spec("weightwatcher") is None, reason="weightwatcher is not installed")
def test_on_ordinary_layers_it_agrees_with_weightwatcher():
    """21 layers: what Martin's own package finds of them."""
    import weightwatcher

    weights = [weight.astype(np.float32) for weight in _with_tails(21)]
    theirs = weightwatcher.WeightWatcher(model=_Maps(weights).float()).analyze()
    ours = spectra_of(_of(*weights))
    assert len(theirs) == len(ours) == 21
    for told, (_, row) in zip(ours, theirs.sort_values("layer_id").iterrows(), strict=True):
        assert told.alpha == pytest.approx(row["alpha"], abs=1e-3)
        assert told.tail.distance == pytest.approx(row["D"], abs=1e-3)
        assert told.tail.sigma == pytest.approx(row["sigma"], rel=1e-3)
        for name, value in {
            "stable_rank": told.stable_rank,
            "log_norm": told.log_norm,
            "log_spectral_norm": told.log_spectral_norm,
            "alpha_weighted": told.alpha_hat,
            "log_alpha_norm": told.log_alpha_norm,
            "entropy": told.entropy,
        }.items():
            assert value == pytest.approx(row[name], rel=1e-3, abs=1e-3), name


def test_an_even_spectrum_has_full_rank_and_one_direction_has_rank_one():
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    even, single = spectra_of(_of(orthogonal, np.outer(np.arange(1.0, 13), np.ones(12))))
    assert (even.stable_rank, even.entropy) == (pytest.approx(12), pytest.approx(1))
    assert single.stable_rank == pytest.approx(1)
    assert math.isnan(single.entropy)
    assert (even.tail, single.tail) == (None, None), "all alike, and one alone: no tail"


# --- complex layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: FourierLayer(3, 2, (2, 3)), lambda: CenteredSpectral(3, 2, (4, 3))])
def test_a_wave_is_multiplied_by_the_matrix_that_is_told_of_its_mode(make):
    torch.manual_seed(0)
    layer = make().double()
    told, points = layer.matrices(), torch.arange(8, dtype=torch.float64) / 8 * 2 * math.pi
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter is not layer.spectral_weight:
                parameter.zero_()
    amplitudes = torch.randn(3, dtype=torch.complex128)
    for (ky, kx), matrix in zip(told.wavenumbers.tolist(), told.stack, strict=True):
        if kx == 0:  # a real field holds such a wave and its mirror at once
            continue
        wave = torch.exp(1j * (ky * points[:, None] + kx * points[None]))
        field = (wave[..., None] * amplitudes).real.unsqueeze(2)
        answer = (wave[..., None] * (amplitudes @ matrix)).real.unsqueeze(2)
        torch.testing.assert_close(layer(field), answer)


def test_eigenvalues_of_modes_are_those_of_the_dense_map_and_of_no_other():
    """Together modes are one map with a block each: its singular values, once; the doubled real map has them twice."""
    operator = tiny.operator(width=8).double()
    told = next(own for own in spectra_of(operator) if own.wavenumbers is not None)
    real, imaginary = operator.get_parameter("layers.0.spectral_weight").detach().numpy()
    blocks = real + 1j * imaginary
    assert told.is_complex
    assert told.shape == blocks.shape == (18, 8, 8)
    dense = np.zeros((18 * 8, 18 * 8), dtype=complex)
    for number, block in enumerate(blocks):
        dense[8 * number : 8 * number + 8, 8 * number : 8 * number + 8] = block
    singular = np.linalg.svd(dense, compute_uv=False)
    np.testing.assert_allclose(np.sort(told.eigenvalues.ravel()), np.sort(singular**2), rtol=1e-9, atol=1e-12)
    doubled = np.block([[dense.real, -dense.imag], [dense.imag, dense.real]])
    twice = np.sort(np.linalg.svd(doubled, compute_uv=False) ** 2)
    np.testing.assert_allclose(np.repeat(np.sort(singular**2), 2), twice, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(told.energies, (np.abs(blocks) ** 2).sum((1, 2)))
    again = fit_tail(twice)
    assert again.alpha == pytest.approx(told.alpha, rel=0.05)
    assert again.num_tail == pytest.approx(2 * told.tail.num_tail, rel=0.05), "which would halve the squared error"


def test_nothing_hangs_on_the_basis_of_channels_or_on_units():
    operator = tiny.operator(width=8).double()
    (first, *_) = (own for own in spectra_of(operator) if own.wavenumbers is not None)
    generator = np.random.default_rng(0)
    turns = [np.linalg.qr(generator.standard_normal((8, 8)) + 1j * generator.standard_normal((8, 8)))[0] for _ in "ab"]
    weight = operator.get_parameter("layers.0.spectral_weight")
    with torch.no_grad():
        turned = turns[0] @ (weight[0].numpy() + 1j * weight[1].numpy()) @ turns[1] * 1e-4  # as small as 1/(in·out)
        weight.copy_(torch.as_tensor(np.stack([turned.real, turned.imag])))
    (then, *_) = (own for own in spectra_of(operator) if own.wavenumbers is not None)
    np.testing.assert_allclose(then.eigenvalues * 1e8, first.eigenvalues, rtol=1e-8)
    for name in ("alpha", "stable_rank", "mean_stable_rank", "entropy", "num_spikes", "soft_rank"):
        assert getattr(then, name) == pytest.approx(getattr(first, name), rel=1e-6), name
    assert then.even_tail.alpha == pytest.approx(first.even_tail.alpha, rel=1e-6)
    assert then.log_norm == pytest.approx(first.log_norm - 8)


def test_modes_of_unlike_scales_make_a_tail_that_evening_them_takes_away():
    layer = FourierLayer(16, 16, (8, 8)).double()
    operator = ModuleOperator.wrap(layer, Poisson.signature)
    before = spectra_of(operator)[0]
    with torch.no_grad():
        layer.spectral_weight.div_(torch.arange(1, 129).view(1, -1, 1, 1))  # the scale of λ falls as 1/k²
    after = spectra_of(operator)[0]
    assert after.tail.alpha < 2.5 < 4 < before.tail.alpha
    assert after.even_tail.alpha == pytest.approx(before.even_tail.alpha, rel=1e-6)
    assert before.num_spikes == after.num_spikes == 0
    assert before.soft_rank == pytest.approx(1, abs=0.2)


def test_a_mean_of_all_entries_is_a_spike_in_every_mode_and_no_trap():
    """As in the first weights of the reference network, uniform from zero up."""
    (told, *_) = (own for own in spectra_of(tiny.operator(width=16, spectral_init=0.0)) if own.wavenumbers is not None)
    assert told.num_spikes == 18
    assert told.permuted < 1
    assert told.outlier_share == 0


def test_one_huge_entry_is_told_as_such():
    weight = np.random.default_rng(0).standard_normal((64, 64))
    weight[5, 7] = 1000.0
    plain, trapped = spectra_of(_of(np.random.default_rng(0).standard_normal((64, 64)), weight))
    assert plain.permuted < 1
    assert plain.outlier_share == 0
    assert trapped.permuted > 5
    assert trapped.outlier_share == pytest.approx(1e6 / (1e6 + 64**2), rel=1e-3)


# --- what layers say --------------------------------------------------------------------------------------------------


def test_layers_of_all_kinds_say_how_they_act():
    signature = Signature(("f",), ("a", "b"), ("u",), 2)
    torch.manual_seed(0)
    for operator, unread in (
        (tiny.operator(), []),
        (UNet(signature, UNetConfig(width=8, levels=2, blocks=1)), []),
        (
            AxialTransformer(signature, AxialTransformerConfig(width=12, num_heads=3, num_blocks=1)),
            ["layer_scales", "sizes", "offsets", "positions"],
        ),
    ):
        spectra = spectra_of(operator)
        assert {name.rpartition(".")[2] for name in left_out(operator)} == set(unread)
        sizes = {name: parameter.numel() for name, parameter in operator.named_parameters()}
        for own in spectra:
            assert math.prod(own.shape) * (2 if own.is_complex else 1) == sizes[own.name], own.name
        assert len({own.name for own in spectra}) == len(spectra)
        if operator.groups():
            assert all(own.part for own in spectra)


def test_kernels_that_tile_the_box_are_one_matrix_and_those_of_a_channel_its_taps():
    last = LastStage(6, 2, stride=4, num_axes=2)
    matrix = last.matrices().stack[0]
    answer = last(torch.eye(6).view(6, 1, 1, 6), stride=4)  # one token each
    torch.testing.assert_close(answer.flatten(1), matrix)
    taps = matrices_of(Depthwise(5, 3, 2)).stack
    assert taps.shape == (1, 5, 9)


def test_convolutions_of_torch_are_a_matrix_a_tap():
    plain, grouped, each = (nn.Conv2d(8, 12, 3), nn.Conv2d(8, 12, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8))
    stack = matrices_of(plain).stack
    assert stack.shape == (9, 12, 8)
    torch.testing.assert_close(stack[5], plain.weight.detach()[:, :, 1, 2])
    assert matrices_of(grouped).stack.shape == (18, 6, 4)
    torch.testing.assert_close(matrices_of(grouped).stack[9 + 5], grouped.weight.detach()[6:, :, 1, 2])
    assert matrices_of(each).stack.shape == (1, 8, 9)


def test_weights_of_two_layers_are_told_once_and_what_nobody_says_how_to_read_is_named():
    operator = ModuleOperator.wrap(networks.Tied(), Poisson.signature)
    assert [own.name for own in spectra_of(operator)] == ["module.first.weight"]

    class Own(networks.Idle):
        def __init__(self) -> None:
            super().__init__(1, 1)
            self.table = nn.Parameter(torch.randn(3, 4, dtype=torch.complex64))

    assert left_out(ModuleOperator.wrap(Own(), Poisson.signature)) == ["module.table"]


def test_an_adapter_does_not_hide_a_layer():
    from scifm.training.methods import AffineAdapter, attach_adapters

    operator = tiny.operator()
    names = [(own.name, own.part) for own in spectra_of(operator)]
    attach_adapters(operator, AffineAdapter)
    adapter = next(name for name, _ in operator.named_parameters() if name.endswith("gain"))
    with torch.no_grad():
        operator.get_parameter(adapter).add_(1.0)
    told = spectra_of(operator)
    assert [(own.name, own.part) for own in told] == names
    before = {own.name: own for own in spectra_of(tiny.operator())}
    assert told[1].log_norm == pytest.approx(before[told[1].name].log_norm + math.log10(4)), "twice the weight"


# --- distances --------------------------------------------------------------------------------------------------------


def test_how_far_weights_moved_by_hand():
    before, after = tiny.operator(), tiny.operator()
    u, v = torch.tensor([3.0, 0, 0, 4]), torch.tensor([0.0, 1, 0, 0])
    with torch.no_grad():
        after.get_parameter("layers.0.skip.weight").add_(torch.outer(u, v))
    told = {own.name: own for own in compare(before, after)}
    moved = told["layers.0.skip.weight"]
    size = float(before.get_parameter("layers.0.skip.weight").detach().norm())
    assert moved.distance == pytest.approx(5, rel=1e-5)
    assert moved.relative == pytest.approx(5 / size, rel=1e-5)
    assert moved.stable_rank == pytest.approx(1, rel=1e-4)
    assert all((own.distance, own.stable_rank) == (0, None) for own in told.values() if own is not moved)


def test_a_complex_layer_is_as_far_as_its_numbers_are():
    before, after = tiny.operator(), tiny.operator(seed=1)
    weights = [own.get_parameter("layers.0.spectral_weight") for own in (before, after)]
    told = {own.name: own for own in compare(before, after)}["layers.0.spectral_weight"]
    assert told.distance == pytest.approx(float((weights[1] - weights[0]).detach().norm()), rel=1e-6)


def test_layers_that_the_other_lacks_have_no_distance():
    told = {own.name: own for own in compare(tiny.operator(), tiny.operator(width=6, num_layers=3))}
    assert [name for name, own in told.items() if own.distance is not None] == ["projection.1.weight"]
    assert "layers.2.skip.weight" in told


def test_weights_that_are_no_numbers_are_refused():
    operator = tiny.operator()
    with torch.no_grad():
        operator.get_parameter("layers.0.skip.weight")[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"layers\.0\.skip\.weight"):
        spectra_of(operator)
    with pytest.raises(ValueError, match=r"layers\.0\.skip\.weight"):
        compare(tiny.operator(), operator)
