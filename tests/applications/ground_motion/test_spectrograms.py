"""Spectrograms there and back, and whether a network can tell two sets of them apart."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from scifm.applications.ground_motion.discrimination import discriminative_score
from scifm.applications.ground_motion.network import MotionConfig
from scifm.applications.ground_motion.shaking import texture
from scifm.applications.ground_motion.spectrograms import Frames, inverted, spectral_convergence
from scifm.applications.ground_motion.synthesis import StochasticMotion
from scifm.errors import ConfigError, DataError
from scifm.fields.seeds import generator_for

FRAMES = Frames(window=64, hop=16, quiet=1.0)


def noise(count: int = 4, num_samples: int = 512) -> torch.Tensor:
    return torch.randn(count, num_samples, generator=generator_for(0, "noise"), dtype=torch.float64)


def test_a_spectrogram_lies_on_its_grid():
    grid = FRAMES.grid(512, 50.0)
    assert FRAMES.amplitudes(noise()).shape[1:] == grid.num_points == (33, 33)
    assert grid.extent == (512 / 50, 25.0)
    with pytest.raises(ConfigError, match="too few frames"):
        FRAMES.grid(100, 50.0)


def test_the_level_of_noise_is_measured_before_the_motion():
    records = 1e-9 * noise(64)
    records[:, 100:] *= 1e6
    level = FRAMES.noise_level(records, 50.0)
    inside = FRAMES.amplitudes(records)[:, 2:4].square().mean().sqrt()  # whole frames of noise alone
    assert abs(level / float(inside) - 1) < 0.1
    levels = FRAMES.levels(records, level)
    assert math.isclose(float(levels.min().exp()), 0.3 * level, rel_tol=1e-9)
    with pytest.raises(DataError, match="nothing but zeros"):
        FRAMES.noise_level(torch.zeros(2, 512), 50.0)
    with pytest.raises(ConfigError, match="too few to measure noise on"):
        Frames(window=128, quiet=0.1).noise_level(records, 50.0)


def test_frames_that_do_not_overlap_are_refused():
    with pytest.raises(ValidationError, match="hop is 32 or less"):
        Frames(window=64, hop=40)


def test_phases_are_found_for_amplitudes_of_a_record():
    pytest.importorskip("librosa", reason="librosa is of the extra seismic")
    motion, row = StochasticMotion(num_samples=512), torch.ones(2, dtype=torch.float64)
    records = motion.shaken(3 * row, 20 * row, generator_for(0, "test"))
    amplitudes = FRAMES.amplitudes(records)
    made = inverted(amplitudes, FRAMES, 512, num_iterations=100)
    assert float(spectral_convergence(made, amplitudes, FRAMES).max()) < 0.1
    assert torch.equal(made, inverted(amplitudes, FRAMES, 512, num_iterations=100)), "a seed is a record"
    small = inverted(1e-6 * amplitudes, FRAMES, 512, num_iterations=100)
    torch.testing.assert_close(small, 1e-6 * made, rtol=1e-3, atol=1e-9 * float(made.abs().max()))


CONFIG = MotionConfig(frames=FRAMES, num_samples=512)


def test_the_texture_of_steady_noise_has_its_scatter_and_hangs_together():
    drawn = texture(CONFIG, torch.zeros(50, 33, 33, dtype=torch.float64), generator_for(0, "texture"))
    assert drawn.shape == (50, 33, 33)
    inner = drawn[:, :, 2:-2]
    assert abs(float(inner.square().mean()) - 1) < 0.05
    assert abs(float(inner.log().mean()) + 0.5 * 0.5772) < 0.03  # Euler's constant, of a Rayleigh variable
    ends = inner[:, [0, -1]].square().mean(dim=(0, 2))
    assert float((ends - 1).abs().max()) < 0.2, "frames at the ends count as the others"
    beside = torch.corrcoef(torch.stack([inner[:, :-1].flatten(), inner[:, 1:].flatten()]))[0, 1]
    assert 0.3 < float(beside) < 0.95


def test_frames_that_see_one_burst_see_the_same():
    burst = torch.zeros(50, 512, dtype=torch.float64)
    burst[:, 250:262] = torch.randn(50, 12, generator=generator_for(0, "burst"), dtype=torch.float64)
    power = FRAMES.amplitudes(burst).square().mean(dim=(0, 2), keepdim=True).expand(50, 33, 33)
    drawn = texture(CONFIG, 0.5 * (power + 1e-9).log(), generator_for(0, "texture"))[:, 15:18, 2:-2]
    alike = torch.corrcoef(torch.stack([drawn[:, 0].flatten(), drawn[:, 2].flatten()]))[0, 1]
    steady = texture(CONFIG, torch.zeros(50, 33, 33, dtype=torch.float64), generator_for(0, "texture"))[:, 15:18, 2:-2]
    apart = torch.corrcoef(torch.stack([steady[:, 0].flatten(), steady[:, 2].flatten()]))[0, 1]
    assert float(alike) > 0.6 > 0.3 > float(apart)
    assert abs(float(drawn.square().mean()) - 1) < 0.1


def test_a_network_tells_what_differs_and_nothing_else():
    true, again = (torch.randn(64, 8, 5, generator=generator_for(seed, "levels")) for seed in (0, 1))
    assert discriminative_score(true, again, num_steps=60) < 0.2
    assert discriminative_score(true, again + 1.0, num_steps=60) > 0.4
    with pytest.raises(DataError, match="as many made ones"):
        discriminative_score(true, again[:32])
