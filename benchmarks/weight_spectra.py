"""Do spectra of weights tell which of our networks is right more often? A family of small FNOs, and rank correlations.

54 networks of 3 widths learn Poisson's equation (32², anisotropy 1 to 5, 256 samples) for 100, 300 or 900 steps, with
and without weight decay, from 3 seeds. Of each the mean over its layers of what `scifm.trust.spectra` measures is set
beside its error on 256 unseen samples: Spearman's rank correlation over all of them, within equal widths, and within
equal widths and steps, where neither size nor length of training can stand in for the spectrum. Intervals are bootstrap
intervals, 95 %: over the 18 choices of width, steps and weight decay, whose seeds stay together, and within groups over
their networks.

A folder keeps what was trained (``--out``), so that it goes on where it stopped. About ten minutes of a core.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from harness import Row, argument_parser, publish, put_into
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.folder import find_model
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.systems.poisson import Poisson
from scifm.training.beginning import operator_before
from scifm.training.pretrain import pretrain
from scifm.training.validation import sample_errors
from scifm.trust.spectra import LayerSpectrum, compare, spectra_of

WIDTHS, STEPS, DECAYS, SEEDS = (8, 16, 24), (100, 300, 900), (0.0, 0.3), (0, 1, 2)
PAGE = Path(__file__).parents[1] / "docs" / "concepts" / "weight-spectra.md"
NUM_DRAWS = 2000
WAYS = {"all": (), "equal width": (0,), "equal width and steps": (0, 1)}


def recipe(width: int, steps: int, decay: float, seed: int) -> dict[str, Any]:
    network = {"width": width, "modes": 8, "num_layers": 3, "projection_width": 2 * width, "latent_points": 16}
    training = {"num_steps": steps, "batch_size": 16, "learning_rate": 5e-3, "weight_decay": decay}
    training |= {"validate_every": steps, "checkpoint_every": steps, "accelerator": "cpu"}
    data = {"num_points": 32, "num_samples": 256, "num_validation_samples": 32, "num_normalization_samples": 128}
    return {
        "name": f"w{width}-{steps}-{decay:g}-seed{seed}",
        "seed": seed,
        "system": {"name": "poisson", "knobs": {"anisotropy": [1, 5]}},
        "data": data,
        "model": {"network": network},
        "training": training,
    }


def _mean(told: Callable[[LayerSpectrum], float | None], layers: Sequence[LayerSpectrum]) -> float:
    values = [value for own in layers if (value := told(own)) is not None]
    return float(np.mean(values))


def measured(operator: Operator, before: Operator) -> dict[str, float]:
    """Return what is measured of one network: means over its layers of 8 channels or more, by name."""
    layers = [own for own in spectra_of(operator) if own.permuted is not None and own.tail is not None]
    modes = [own for own in layers if own.wavenumbers is not None]
    names = {own.name for own in layers}
    changes = [own for own in compare(before, operator) if own.name in names]
    return {
        "alpha": _mean(lambda own: own.alpha, layers),
        "alpha, spectral": _mean(lambda own: own.alpha, modes),
        "alpha, spectral, even modes": _mean(lambda own: own.even_tail and own.even_tail.alpha, modes),
        "alpha-hat": _mean(lambda own: own.alpha_hat, layers),
        "log alpha norm": _mean(lambda own: own.log_alpha_norm, layers),
        "log norm": _mean(lambda own: own.log_norm, layers),
        "log spectral norm": _mean(lambda own: own.log_spectral_norm, layers),
        "stable rank of a matrix": _mean(lambda own: own.mean_stable_rank, layers),
        "entropy": _mean(lambda own: own.entropy, layers),
        "spikes a mode, spectral": _mean(lambda own: (own.num_spikes or 0) / own.shape[0], modes),
        "distance from first weights": float(np.mean([own.relative for own in changes])),
    }


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation along the last axis; zero where all are alike."""
    ranks = [rankdata(values, axis=-1) for values in (x, y)]
    own, other = (rank - rank.mean(-1, keepdims=True) for rank in ranks)
    size = np.sqrt((own**2).sum(-1) * (other**2).sum(-1))
    return np.divide((own * other).sum(-1), size, out=np.zeros_like(size), where=size > 0)


def correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, cells: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over groups of the rank correlation, and its 95 % interval."""
    generator, estimates, drawn = np.random.default_rng(0), [], []
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        estimates.append(spearman(x[own], y[own]))
        if len(own) == len(groups):  # seeds of one choice are much alike, and stay together
            members = np.array([np.flatnonzero(cells == cell) for cell in np.unique(cells)])
            index = members[generator.integers(len(members), size=(NUM_DRAWS, len(members)))].reshape(NUM_DRAWS, -1)
        else:
            index = own[generator.integers(len(own), size=(NUM_DRAWS, len(own)))]
        drawn.append(spearman(x[index], y[index]))
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return float(np.mean(estimates)), float(low), float(high)


def correlations(table: Sequence[dict[str, float]], settings: np.ndarray) -> list[Row]:
    error = np.array([own["error"] for own in table])
    cells = np.unique(settings[:, :3], axis=0, return_inverse=True)[1].ravel()
    rows = []
    for name in [name for name in table[0] if name != "error"]:
        x = np.array([own[name] for own in table])
        for way, fixed in WAYS.items():
            groups = np.unique(settings[:, list(fixed)], axis=0, return_inverse=True)[1].ravel()
            found = correlation(x, error, groups, cells)
            unit = "Spearman with the error"
            rows += [
                Row(way, name + end, value, unit) for end, value in zip(("", ", low", ", high"), found, strict=True)
            ]
    return rows


def as_table(rows: Sequence[Row]) -> str:
    found = {(row.case, row.metric): row.value for row in rows}
    names = list(dict.fromkeys(row.metric.removesuffix(", low").removesuffix(", high") for row in rows))
    lines = [f"| mean over layers of | {' | '.join(WAYS)} |", f"|---{'|---:' * len(WAYS)}|"]
    for name in names:
        told = []
        for way in WAYS:
            value, low, high = (found[way, name + end] for end in ("", ", low", ", high"))
            told.append(f"{value:+.2f} ({low:+.2f} to {high:+.2f})" if (low, high) != (0, 0) else "the same for all")
        lines.append(f"| {name} | {' | '.join(told)} |".replace("-", "−").replace("alpha−hat", "alpha-hat"))
    lines[1] = lines[1].replace("−", "-")
    return "\n".join(lines)


def unseen() -> Batch:
    return Poisson(anisotropy=[1, 5]).sample(256, Grid.square(32), generator_for(0, "weight spectra"))


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--out", type=Path, default=Path("runs/weight-spectra"), help="folder of the runs")
    parser.add_argument("--page", action="store_true", help="write the table into the page of the documentation")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads or 1)
    test, table, rows = unseen(), [], []
    settings = list(itertools.product(WIDTHS, STEPS, DECAYS, SEEDS))
    for width, steps, decay, seed in settings:
        run = pretrain(recipe(width, steps, decay, seed), out=arguments.out)
        place = find_model(run)
        operator = load_operator(place.folder)
        before = operator_before(place, operator)
        assert before is not None
        own = {"error": float(sample_errors(operator, test).mean()), **measured(operator, before[0])}
        own["steps of training, for comparison"] = float(steps)
        case = f"width {width}, {steps} steps, decay {decay:g}, seed {seed}"
        rows += [Row(case, name, value, "relative L2" if name == "error" else "") for name, value in own.items()]
        table.append(own)
        print(case, {name: round(value, 4) for name, value in own.items()}, flush=True)
    found = correlations(table, np.array(settings))
    publish("Spectra of weights and the error on unseen samples", [*rows, *found], arguments.json)
    if arguments.page:
        put_into(PAGE, "correlations", as_table(found))


if __name__ == "__main__":
    main()
