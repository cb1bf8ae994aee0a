"""Drawn records have the spectrum, the onset and the scatter that is said of them; spectra and regressions by hand."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from scifm.applications.ground_motion.scaling import regressed
from scifm.applications.ground_motion.spectra import fourier_amplitudes, konno_ohmachi, smoothed_spectra
from scifm.applications.ground_motion.synthesis import StochasticMotion
from scifm.errors import ConfigError, DataError
from scifm.fields.seeds import generator_for

STILL = StochasticMotion(between=0.0, within=0.0, noise=1e-14, num_samples=512, distance=(5.0, 40.0))


def test_the_mean_power_of_records_is_that_of_the_equation():
    row = torch.ones(200, dtype=torch.float64)
    records = STILL.shaken(3.0 * row, 20.0 * row, generator_for(0, "test"))
    frequencies, amplitudes = fourier_amplitudes(records, STILL.rate)
    said = STILL.median_spectrum(frequencies, 3.0 * row[:1], 20.0 * row[:1])[0]
    ratio = (amplitudes.square().mean(0) / said.square())[10:150]
    assert abs(float(ratio.mean()) - 1) < 0.03
    assert float(ratio.std()) < 4 / math.sqrt(200), "an exponential variable's mean of 200, at each frequency"


def test_the_equation_by_hand():
    f, m, r = torch.tensor([4.0]), torch.tensor([3.0], dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64)
    moment = 10**13.55
    corner = 0.49 * 3500 * (5e6 / moment) ** (1 / 3)
    constant = 0.55 * 2 * 0.707 / (4 * math.pi * 2800 * 3500**3)
    source = constant * moment * 2 * math.pi * 4 / (1 + (4 / corner) ** 2) / 1e4
    path = math.exp(-math.pi * 4 * 1e4 / (150 * 4**0.5 * 3500)) * math.exp(-math.pi * 0.03 * 4)
    assert math.isclose(float(STILL.median_spectrum(f, m, r)), source * path, rel_tol=1e-12)
    assert math.isclose(float(STILL.corner(m)), corner, rel_tol=1e-12)


def test_nothing_moves_before_the_onset():
    drawn = STILL.draw(4, 2, generator_for(0, "test"))
    before = int(STILL.onset * STILL.rate)
    peaks = drawn.velocity.abs().amax(dim=1)
    assert float((drawn.velocity[:, : before - 1].abs().amax(dim=1) / peaks).max()) < 1e-4


def test_terms_of_events_and_records_have_their_deviations():
    motion = STILL.model_copy(update={"between": 0.3, "within": 0.2, "num_samples": 64, "onset": 0.1})
    with_terms = motion.draw(600, 3, generator_for(0, "test"))
    without = motion.model_copy(update={"between": 0.0, "within": 0.0}).draw(600, 3, generator_for(0, "test"))
    terms = (with_terms.velocity.norm(dim=1) / without.velocity.norm(dim=1)).log().view(600, 3)
    assert abs(float(terms.std()) / motion.sigma - 1) < 0.06
    assert abs(float(terms.var(dim=1).mean().sqrt()) / 0.2 - 1) < 0.08
    assert torch.equal(with_terms.event.view(600, 3), torch.arange(600)[:, None].expand(-1, 3))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"magnitude": (4.0, 2.0)}, "in this order"),
        ({"distance": (0.0, 2.0)}, "distance is positive"),
        ({"onset": 19.0}, "first half"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(setting, said):
    with pytest.raises(ValidationError, match=said):
        StochasticMotion(**setting)


# --- spectra ----------------------------------------------------------------------------------------------------------


def test_smoothing_is_that_of_obspy():
    theirs = pytest.importorskip("obspy.signal.konnoohmachismoothing", reason="obspy is of the extra seismic")
    frequencies = torch.fft.rfftfreq(256, 0.02, dtype=torch.float64)
    matrix = theirs.calculate_smoothing_matrix(frequencies.numpy(), 20.0, normalize=True)
    ours = konno_ohmachi(frequencies, frequencies[1:], 20.0)
    torch.testing.assert_close(ours, torch.from_numpy(matrix[1:]).double(), rtol=1e-6, atol=1e-9)


def test_a_flat_spectrum_stays_flat_and_its_scale_is_that_of_an_integral():
    pulse = torch.zeros(1, 256)
    pulse[0, 100] = 50.0  # an area of one at 50 Hz
    centers = torch.tensor([1.0, 5.0, 15.0])
    torch.testing.assert_close(smoothed_spectra(pulse, 50.0, centers), torch.ones(1, 3, dtype=torch.float64))


@pytest.mark.parametrize(("centers", "said"), [([0.0, 1.0], "above 0"), ([30.0], "up to 25"), ([0.05], "too short")])
def test_frequencies_that_a_record_has_not_are_refused(centers, said):
    with pytest.raises(ConfigError, match=said):
        smoothed_spectra(torch.randn(2, 128), 50.0, torch.tensor(centers))


# --- regression -------------------------------------------------------------------------------------------------------


def test_a_published_scaling_is_found_again():
    # ln A = -13.5466 + 2.6166 M - 1.7052 ln R, sigma 0.77: the ergodic model of the public code at 5 Hz
    generator = generator_for(0, "regression")
    m = 1 + 3 * torch.rand(2000, generator=generator, dtype=torch.float64)
    r = (3 * torch.rand(2000, generator=generator, dtype=torch.float64)).exp() * 5
    noise = 0.77 * torch.randn(2000, generator=generator, dtype=torch.float64)
    found = regressed((-13.5466 + 2.6166 * m - 1.7052 * r.log() + noise)[:, None], torch.stack([m, r.log()], dim=1))
    off = (found.coefficients[:, 0] - torch.tensor([-13.5466, 2.6166, -1.7052])) / found.errors[:, 0]
    assert float(off.abs().max()) < 3
    assert abs(float(found.sigma[0]) / 0.77 - 1) < 0.05
    assert abs(float(found.residuals.mean())) < 1e-10


def test_regressors_that_say_the_same_are_refused():
    one = torch.arange(10.0)
    with pytest.raises(DataError, match="do not tell 3 coefficients apart"):
        regressed(torch.randn(10, 1), torch.stack([one, 2 * one], dim=1))
