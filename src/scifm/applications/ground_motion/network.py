"""The network that makes spectrograms: a conditional variational autoencoder whose prior goes through time.

Of a record with conditions c, and ln amplitudes x_t of its frames,

    posterior   q(w | x, c),  q(z_t | x, w, c)             a GRU over all frames, forth and back, or forth alone
    prior       p(w | c),  p(z_t | z_1, …, z_(t−1), w, c)  a GRU over the z before, whose state is h_t
    decoder     p(x_t | z_t, h_t, w, c)                    a perceptron, frame by frame

each normal with independent parts but the last. It is trained by the evidence lower bound

    ln p(x | c) ≥ Σ_t  E_q ln p(x_t | z_t, h_t, w, c)  −  E_q KL( q(z_t | x, w, c) ‖ p(z_t | z_<t, w, c) )
                  −  KL( q(w | x, c) ‖ p(w | c) )

with z = mean + exp(½ logvar) · ε, and w so too; it makes records by drawing w and then z from the prior, frame after
frame.

What stays for a whole record
    w is drawn once a record. It is what seismologists call its terms, of event, path and site: that all of a record is
    stronger than others. It is added to the levels, where the decoder says that there is motion. The published model
    has none (``static = 0``), and z has to hand that on from frame to frame, drawn anew each time.

What the prior is conditioned on
    In the bound, z_<t of the prior are those that the posterior drew: only so is the sum of terms one divergence of two
    laws of whole sequences. Were the prior rolled out by itself instead (``prior = "own"``), its z_<t would know
    nothing of the record but what w says; without w, the best it could learn is each frame's own distribution over all
    records. Sequences are drawn from it in the same way either way, each z_t from those drawn before. With w, records
    made either way were found about as true (one seed, see guide): the bound is the reason, not a gain that is seen.

What an amplitude is, given its level
    Motion of random phase has amplitudes that are scattered around their root mean square A as those of noise:
    |S|² / A² is exponential. So the decoder says A (``likelihood = "rayleigh"``), −ln p = e^u − u + const. with
    u = 2 (x − ln A), and a made record has that scatter again, as the spectrogram of noise has it, see `texture`. A
    decoder that says the mean of x and no scatter (``"mean"``: squared error, as published) makes spectrograms that are
    smooth, and 0.13 in log₁₀ too low: e^(−γ/2), γ Euler's constant.

References:
    Ren et al., arXiv:2407.15089, the task and the model; Girin et al., Found. Trends Mach. Learn. 15 (2021) 1, dynamic
    variational autoencoders, and what each conditions on what.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from scifm.applications.ground_motion.spectrograms import Frames
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded, Normalization
from scifm.models.operator import Operator, OperatorConfig

__all__ = ["Bound", "MotionConfig", "MotionGenerator", "divergence"]

_EULER = 0.5772156649015329
_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -10.0, 4.0


class MotionConfig(OperatorConfig):
    """Architecture of a `MotionGenerator`.

    Args:
        frames: how spectrograms are made.
        num_samples: of a record; settled by the first data, as the three below.
        rate: samples a second [Hz].
        noise: root mean square of |S| of the noise of the place, see `Frames.noise_level`.
        embedding: numbers that the conditions become.
        posterior_width: of the posterior's GRU, each way.
        static: numbers w of a whole record; 0: none, as published.
        latent: numbers z of a frame.
        state: numbers h of the prior's GRU.
        width: of the hidden layers of perceptrons.
        posterior: sees the ``whole`` record, or its ``past``.
        prior: in training is conditioned on the z of the ``posterior``, or on its ``own``; the module says why not.
        likelihood: ``rayleigh``, or ``mean``; the module says why.
    """

    kind: ClassVar[str] = "ground_motion"

    frames: Frames = Frames()
    num_samples: int = Field(1024, ge=16)
    rate: float = Field(50.0, gt=0, allow_inf_nan=False)
    noise: float = Field(1.0, gt=0, allow_inf_nan=False)
    embedding: int = Field(16, ge=1)
    posterior_width: int = Field(32, ge=1)
    static: int = Field(4, ge=0)
    latent: int = Field(4, ge=1)
    state: int = Field(32, ge=1)
    width: int = Field(64, ge=1)
    posterior: Literal["whole", "past"] = "whole"
    prior: Literal["posterior", "own"] = "posterior"
    likelihood: Literal["rayleigh", "mean"] = "rayleigh"

    @property
    def grid(self) -> Grid:
        """Where spectrograms live."""
        return self.frames.grid(self.num_samples, self.rate)


@dataclass(frozen=True)
class Bound:
    """The two parts of the bound, of each record.

    Args:
        misfit: −ln p(x | z) but for constants, over all frames and frequencies, ``(record,)`` [nat].
        divergence: of the posterior from the prior, over all frames, ``(record,)`` [nat].
    """

    misfit: Tensor
    divergence: Tensor


def divergence(mean: Tensor, log_variance: Tensor, other: Tensor, other_log_variance: Tensor) -> Tensor:
    """Return the Kullback–Leibler divergence of a normal law from another, part by part [nat]."""
    ratio = (log_variance - other_log_variance).exp()
    square = (mean - other).square() * (-other_log_variance).exp()
    return 0.5 * (ratio + square - 1 - log_variance + other_log_variance)


class MotionGenerator(Operator):
    """Records and their conditions → what they would be without their scatter; and conditions → new records.

    As an operator it answers a spectrogram with its level: ln A of each frame, from the posterior's mean.

    Args:
        signature: ``log_amplitude`` in, ``level`` out, conditions as coefficients, in the plane (time, frequency).
        config: its architecture.
        normalization: of the conditions; that of levels is the network's own: see `know_levels`.
    """

    config: MotionConfig
    config_class = MotionConfig
    needs_periodic = False
    uses_global_generator = False
    level_mean: Tensor
    level_slopes: Tensor
    level_scale: Tensor

    def __init__(
        self, signature: Signature, config: MotionConfig | None = None, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__(signature, config or MotionConfig(), normalization=normalization)
        c = self.config
        num_frames, num_frequencies = c.grid.num_points
        self.register_buffer("level_mean", torch.zeros(num_frames, num_frequencies))
        self.register_buffer("level_slopes", torch.zeros(len(signature.coefficients), num_frames, num_frequencies))
        self.register_buffer("level_scale", torch.ones(num_frequencies))
        self.embed = _perceptron(len(signature.coefficients), c.width, c.embedding)
        both, given = c.posterior == "whole", c.embedding + c.static
        self.read = nn.GRU(num_frequencies + c.embedding, c.posterior_width, batch_first=True, bidirectional=both)
        hidden = c.posterior_width * (2 if both else 1)
        if c.static:
            self.posterior_whole = _perceptron(hidden + c.embedding, c.width, 2 * c.static)
            self.prior_whole = _perceptron(c.embedding, c.width, 2 * c.static)
            self.terms = nn.Linear(c.static, num_frequencies, bias=False)
            with torch.no_grad():  # a term of all frequencies alike is found before z can take its place
                self.terms.weight[:, 0] = 1.0
        self.posterior = _perceptron(hidden + given, c.width, 2 * c.latent)
        self.recur = nn.GRU(c.latent + given, c.state, batch_first=True)
        self.prior = _perceptron(c.state + given, c.width, 2 * c.latent)
        self.decode = _perceptron(c.latent + c.state + given, c.width, num_frequencies + bool(c.static))

    @torch.no_grad()
    def know_levels(self, samples: Batch) -> None:
        """Take what is linear in the conditions from the records of the training, and from no others.

        That is, of each frame and frequency, the least squares of ln amplitudes on the conditions as the network is
        given them; networks say what is left of it, in units of its standard deviation at each frequency.

        Args:
            samples: aligned.
        """
        encoded = self.encoded(samples)
        levels, told = encoded.inputs[:, 0, 0].double(), encoded.coefficients.double()
        known = torch.cat([torch.ones_like(told[:, :1]), told], dim=1)
        found = torch.linalg.lstsq(known, levels.flatten(1)).solution.unflatten(1, levels.shape[1:])
        left = levels - torch.einsum("bc,ctf->btf", known, found)
        # the mean of ln |S| lies beneath ln of its root mean square
        self.level_mean.copy_(found[0] + (0.5 * _EULER if self.config.likelihood == "rayleigh" else 0.0))
        self.level_slopes.copy_(found[1:])
        self.level_scale.copy_(left.square().mean(dim=(0, 1)).sqrt().clamp(min=1e-3))

    def network(self, encoded: Encoded) -> Tensor:
        told = encoded.coefficients
        hidden, conditions = self._hidden(encoded.inputs[:, 0, 0], told), self.embed(told)
        given = conditions
        if self.config.static:
            given = torch.cat([conditions, self._whole(hidden, conditions)[0]], dim=-1)
        mean, _ = self.seen(hidden, given)
        return self.decoded(mean, self.states(mean, given), given, told)[:, None, None]

    def _linear(self, told: Tensor) -> Tensor:
        """Return ln amplitudes as far as they are linear in the conditions, ``(record, frame, frequency)``."""
        return self.level_mean + torch.einsum("bc,ctf->btf", told, self.level_slopes)

    # --- laws ---------------------------------------------------------------------------------------------------------

    def _hidden(self, levels: Tensor, told: Tensor) -> Tensor:
        """Return what the posterior's GRU makes of records, ``(record, frame, width)``; told: conditions, encoded."""
        left = (levels - self._linear(told)) / self.level_scale
        hidden, _ = self.read(torch.cat([left, _along(self.embed(told), levels.shape[1])], dim=-1))
        return hidden

    def _whole(self, hidden: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and ln variance of w as the posterior sees them, ``(record, static)``."""
        return _law(self.posterior_whole(torch.cat([hidden.mean(dim=1), conditions], dim=-1)))

    def seen(self, hidden: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and ln variance of z as the posterior sees them, ``(record, frame, latent)``.

        Args:
            hidden: what its GRU makes of the record.
            given: the embedded conditions and w, ``(record, number)``, as below.
        """
        return _law(self.posterior(torch.cat([hidden, _along(given, hidden.shape[1])], dim=-1)))

    def states(self, latent: Tensor, given: Tensor) -> Tensor:
        """Return the prior's state before each frame, ``(record, frame, state)``, from the z of those before it."""
        before = functional.pad(latent[:, :-1], (0, 0, 1, 0))
        states, _ = self.recur(torch.cat([before, _along(given, latent.shape[1])], dim=-1))
        return states

    def expected(self, states: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and ln variance of z as the prior says them, from its states."""
        return _law(self.prior(torch.cat([states, _along(given, states.shape[1])], dim=-1)))

    def decoded(self, latent: Tensor, states: Tensor, given: Tensor, told: Tensor) -> Tensor:
        """Return levels ln A, ``(record, frame, frequency)``; told: conditions, encoded."""
        said = self.decode(torch.cat([latent, states, _along(given, latent.shape[1])], dim=-1))
        if self.config.static:  # where there is motion, and not in the noise before and behind it
            terms = self.terms(given[:, -self.config.static :])[:, None]
            said = said[..., :-1] + torch.sigmoid(said[..., -1:]) * terms
        return said * self.level_scale + self._linear(told)

    def bound(self, batch: Batch, generator: torch.Generator) -> Bound:
        """Return the parts of the evidence lower bound of records, w and z drawn once.

        Args:
            batch: aligned, ``log_amplitude`` as inputs.
            generator: of w and z, on the device of the batch.
        """
        encoded = self.encoded(batch)
        levels, told = encoded.inputs[:, 0, 0], encoded.coefficients
        hidden, given = self._hidden(levels, told), self.embed(told)
        apart = levels.new_zeros(len(levels))
        if self.config.static:
            law = self._whole(hidden, given)
            apart = divergence(*law, *_law(self.prior_whole(given))).sum(1)
            given = torch.cat([given, _drawn(law, generator)], dim=-1)
        law = self.seen(hidden, given)
        latent = _drawn(law, generator)
        states = self.states(latent, given)
        if self.config.prior == "own":
            _, prior = self.rolled(given, levels.shape[1], generator)
        else:
            prior = self.expected(states, given)
        off = levels - self.decoded(latent, states, given, told)
        if self.config.likelihood == "rayleigh":
            misfit = (2 * off).exp() - 2 * off - 1
        else:
            misfit = 0.5 * (off / self.level_scale).square()
        return Bound(misfit.flatten(1).sum(1), apart + divergence(*law, *prior).flatten(1).sum(1))

    def rolled(
        self, given: Tensor, num_frames: int, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return z drawn from the prior, frame after frame, and mean and ln variance of each, from those before it."""
        latent = given.new_zeros(len(given), 1, self.config.latent)
        state, drawn, laws, along = None, [], [], given[:, None]
        for _ in range(num_frames):
            states, state = self.recur(torch.cat([latent, along], dim=-1), state)
            law = self.expected(states, given)
            latent = _drawn(law, generator)
            drawn.append(latent)
            laws.append(law)
        means, log_variances = zip(*laws, strict=True)
        return torch.cat(drawn, dim=1), (torch.cat(means, dim=1), torch.cat(log_variances, dim=1))

    @torch.no_grad()
    def drawn_levels(self, coefficients: Tensor, generator: torch.Generator) -> Tensor:
        """Return levels ln A of new records, ``(record, frame, frequency)``, w and z drawn from the prior.

        Args:
            coefficients: the conditions of each, as the signature orders them, ``(record, condition)``.
            generator: of w and z, on the device of the weights.
        """
        told = self.encoded_conditions(coefficients)
        given = self.embed(told)
        if self.config.static:
            given = torch.cat([given, _drawn(_law(self.prior_whole(given)), generator)], dim=-1)
        latent, _ = self.rolled(given, self.config.grid.num_points[0], generator)
        return self.decoded(latent, self.states(latent, given), given, told)

    def encoded_conditions(self, coefficients: Tensor) -> Tensor:
        """Return conditions in numbers of order one, as the network is given them."""
        return self.normalization.encode(self.asked(coefficients)).coefficients

    def asked(self, coefficients: Tensor) -> Batch:
        """Return conditions as samples of which nothing else is known, ``(record, condition)``."""
        grid = self.config.grid
        nothing = coefficients.new_full((len(coefficients), 1, 1, *grid.num_points), math.log(self.config.noise))
        return Batch(self.signature, grid, nothing, coefficients)


def _perceptron(num_inputs: int, width: int, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(num_inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, num_outputs)
    )


def _along(conditions: Tensor, num_frames: int) -> Tensor:
    return conditions[:, None].expand(-1, num_frames, -1)


def _law(raw: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = raw.chunk(2, dim=-1)
    return mean, log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)


def _drawn(law: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    mean, log_variance = law
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return mean + (0.5 * log_variance).exp() * noise
