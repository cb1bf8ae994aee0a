"""Is there a form of coefficients that carries a network beyond its range, so that nothing is chosen when it moves?

Pre-trains one FNO a form and seed on a system, moves it to a shifted range with 64 samples, once with the constants of
the coefficients kept and once with them fitted anew, at two learning rates each, and scores on 256 unseen samples. From
scratch on the same samples stands beside it. All rows are kept; the summary takes the better rate by the median of
seeds, for every form alike. The forms:

    as it is        shift and scale by constants of the pre-training samples (the library's)
    logarithm       of the wavenumber shift
    waves           sine and cosine at four wavelengths, the longest four times the pre-training range: bounded anywhere
    real values     the pre-training draws real instead of whole values
    every layer     beside the lift, each layer is scaled and shifted by a small network of the coefficients
    joint           the rule of Subramanian et al., arXiv:2306.00258: forcing and coefficients divided by the forcing's
                    size, coefficients by their medians
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness import Row, argument_parser, publish
from scifm.data.normalize import fit_normalization, refit_coefficients
from scifm.data.stream import WHOLE, Epochs, Part, Stream
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.seeds import DrawingFrom, generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator
from scifm.models.parts.grids import band_limited_resize
from scifm.systems import Helmholtz, Knob, Poisson
from scifm.systems.system import System
from scifm.training.loop import TrainingConfig, train
from scifm.training.validation import sample_errors

GRID = Grid.square(64)
NETWORK = FNOConfig(width=16, projection_width=32)
RATES = (3e-3, 1e-2)
NUM_DOWNSTREAM, NUM_ADAPT_STEPS = 64, 256

Form = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Move:
    """A pre-training and where it is moved."""

    name: str
    source: System
    target: System
    forms: tuple[str, ...]
    told_by_waves: tuple[str, ...]
    longest: float
    real_source: System | None = None  # the pre-training with real values


MOVES = (
    Move(
        "Helmholtz, shift 1 to 10, moved to 10 to 15",
        Helmholtz(wavenumber_shift=Knob(1, 10, integer=True)),
        Helmholtz(wavenumber_shift=Knob(10, 15, integer=True)),
        forms=("as it is", "logarithm", "waves", "real values", "every layer", "joint"),
        told_by_waves=("wavenumber_shift",),
        longest=36.0,
        real_source=Helmholtz(wavenumber_shift=Knob(1, 10)),
    ),
    Move(
        "Poisson, anisotropy 1 to 5, moved to 5 to 10",
        Poisson(anisotropy=Knob(1, 5)),
        Poisson(anisotropy=Knob(5, 10)),
        forms=("as it is", "waves", "every layer", "joint"),
        told_by_waves=("diffusion_xx", "diffusion_xy", "diffusion_yy"),
        longest=16.0,
    ),
)


class EveryLayer(FNO):
    """An FNO whose layers are scaled and shifted by a small network of the coefficients; at first nothing changes."""

    def __init__(self, signature: Signature, config: FNOConfig, *, normalization: Normalization) -> None:
        super().__init__(signature, config, normalization=normalization)
        numbers = 2 * config.num_layers * config.width
        self.modulation = nn.Sequential(nn.Linear(len(signature.coefficients), 64), nn.GELU(), nn.Linear(64, numbers))
        nn.init.zeros_(self.modulation[-1].weight)
        nn.init.zeros_(self.modulation[-1].bias)

    def network(self, encoded: Encoded) -> Tensor:
        space, latent = encoded.inputs.shape[3:], self.config.latent_points
        fields = band_limited_resize(encoded.inputs[:, 0], (latent,) * len(space))
        hidden = self.lift(fields, encoded.coefficients)
        numbers = self.modulation(encoded.coefficients).unflatten(1, (len(self.layers), 2, -1))
        for place, layer in enumerate(self.layers):
            scale, shift = numbers[:, place].unbind(1)
            hidden = layer(hidden) * (1 + scale) + shift
        answer = self.projection(hidden).permute(-2, -1, *range(len(space)))
        return band_limited_resize(answer, tuple(space)).unsqueeze(1)


class Formed:
    """A source of batches in another form of coefficients."""

    def __init__(self, source: Stream, form: Form) -> None:
        self.source, self.form = source, form
        self.grid, self.num_samples = source.grid, None
        self.signature = form(source.batch(0, Part(0, 32))).signature

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        return self.form(self.source.batch(step, part))


def as_it_is(batch: Batch) -> Batch:
    return batch


def logarithm(batch: Batch) -> Batch:
    place = batch.signature.coefficients.index("wavenumber_shift")
    coefficients = batch.coefficients.clone()
    coefficients[:, place] = coefficients[:, place].log()
    return replace(batch, coefficients=coefficients)


def waves(names: tuple[str, ...], longest: float) -> Form:
    """Return the form in which some coefficients are told by their places on four circles."""
    lengths = [longest / 2**octave for octave in range(4)]

    def form(batch: Batch) -> Batch:
        columns: dict[str, Tensor] = {}
        for name in batch.signature.coefficients:
            values = batch.coefficient(name)
            if name not in names:
                columns[name] = values
                continue
            for length in lengths:
                columns[f"{name}_sine_{length:g}"] = (2 * math.pi * values / length).sin()
                columns[f"{name}_cosine_{length:g}"] = (2 * math.pi * values / length).cos()
        signature = replace(batch.signature, coefficients=tuple(columns))
        return replace(batch, signature=signature, coefficients=torch.stack(list(columns.values()), dim=1))

    return form


def draw(system: System, count: int, *purpose: int | str) -> Batch:
    return system.sample(count, GRID, generator_for(0, "representations", *purpose))


def operator_for(batch: Batch, system: System, *, kind: str, every_layer: bool, seed: int) -> Operator:
    """Return a fresh operator with a normalization fitted on `batch`."""
    known = set(batch.signature.coefficients)  # a scaling cannot be told of coefficients in another form
    scalings = tuple(
        h for h in system.homogeneities if not {n for n, _ in h.exponents} - known - {"forcing", "solution"}
    )
    normalization = fit_normalization(batch, scalings, kind=kind)  # type: ignore[arg-type]
    with DrawingFrom(generator_for(seed, "weights")), torch.device("cpu"):
        cls = EveryLayer if every_layer else FNO
        return cls(batch.signature, NETWORK, normalization=normalization)


def training(num_steps: int, rate: float) -> TrainingConfig:
    return TrainingConfig(
        num_steps=num_steps,
        learning_rate=rate,
        validate_every=num_steps,
        checkpoint_every=num_steps,
        log_every=num_steps,
    )


def errors_of(move: Move, name: str, seed: int, num_steps: int) -> dict[str, float]:
    """Return the test error of each way to adapt, after pre-training in one form with one seed."""
    form = {"logarithm": logarithm, "waves": waves(move.told_by_waves, move.longest)}.get(name, as_it_is)
    source = move.real_source if name == "real values" and move.real_source is not None else move.source
    about = {"kind": "joint" if name == "joint" else "homogeneous", "every_layer": name == "every layer", "seed": seed}
    operator = operator_for(form(draw(source, 512, "fit")), source, **about)  # type: ignore[arg-type]
    train(operator, Formed(Stream(source, GRID, batch_size=32, seed=seed), form), config=training(num_steps, 1e-2))
    weights = {key: value.clone() for key, value in operator.state_dict().items()}
    few, test = form(draw(move.target, NUM_DOWNSTREAM, "few", seed)), form(draw(move.target, 256, "test"))
    found = {
        "in distribution": float(sample_errors(operator, form(draw(source, 256, "valid"))).mean()),
        "zero-shot": float(sample_errors(operator, test).mean()),
    }
    kept = operator.normalization
    refitted = refit_coefficients(kept, operator.signature, few)
    for which, normalization in (("kept", kept), ("refitted", refitted)):
        for rate in RATES:
            operator.load_state_dict(weights)
            operator.normalization = normalization
            train(operator, Epochs(few, batch_size=32, seed=seed), config=training(NUM_ADAPT_STEPS, rate))
            found[f"{which}, {rate:g}"] = float(sample_errors(operator, test).mean())
    for rate in RATES:
        fresh = operator_for(few, move.target, **about)  # type: ignore[arg-type]
        train(fresh, Epochs(few, batch_size=32, seed=seed), config=training(NUM_ADAPT_STEPS, rate))
        found[f"from scratch, {rate:g}"] = float(sample_errors(fresh, test).mean())
    return found


def summary(move: Move, name: str, by_seed: list[dict[str, float]]) -> list[Row]:
    """Return the median over seeds of every way, with the better of the two rates."""
    case, rows = f"{move.name}; {name}", []
    middle = {way: statistics.median(found[way] for found in by_seed) for way in by_seed[0]}
    for way in ("in distribution", "zero-shot"):
        rows.append(Row(case, f"median of seeds, {way}", middle[way], "relative L2"))
    for way in ("kept", "refitted", "from scratch"):
        best = min(middle[f"{way}, {rate:g}"] for rate in RATES)
        rows.append(Row(case, f"median of seeds at the better rate, {way}", best, "relative L2"))
    return rows


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="repeat with this many seeds")
    parser.add_argument("--steps", type=int, default=1500, help="steps of pre-training, of 32 fresh samples")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for move in MOVES:
        for name in move.forms:
            by_seed = [errors_of(move, name, seed, args.steps) for seed in range(args.seeds)]
            told = summary(move, name, by_seed)
            print(*(f"{row.case}  {row.metric}  {row.value:.4f}" for row in told), sep="\n", flush=True)
            rows += told
            for seed, found in enumerate(by_seed):
                case = f"{move.name}; {name}"
                rows += [Row(case, f"seed {seed}, {way}", error, "relative L2") for way, error in found.items()]
            publish("Forms of coefficients, moved beyond their range", rows, args.json)  # interrupted, it has these


if __name__ == "__main__":
    main()
