"""Whether made ground motion is like true motion: median spectra, scaling, scatter, and which part does what.

Records are drawn by the stochastic method, a generator is trained on 2,000 of them, and 1,000 others are made and
compared with as many true ones of the same conditions. Then one thing is changed at a time: no term of a whole record,
the mean of levels in place of their law, the prior rolled out by itself. That other true records differ
too is told in a row of its own.

``python benchmarks/ground_motion.py --folder DIR --seeds 3 --docs docs/guides/ground-motion.md`` keeps stores, runs and
accounts in the folder, so that it can be interrupted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from harness import argument_parser, put_into, write_measured
from scifm.applications.ground_motion.assessing import AssessRecipe, Likeness, compared, likeness
from scifm.applications.ground_motion.imitating import ImitateRecipe, imitate
from scifm.applications.ground_motion.making import RecordsRecipe, make_records
from scifm.applications.ground_motion.scaling import regressed
from scifm.applications.ground_motion.shaking import load_generator, texture
from scifm.applications.ground_motion.spectra import smoothed_spectra
from scifm.applications.ground_motion.spectrograms import inverted, spectral_convergence
from scifm.applications.ground_motion.synthesis import StochasticMotion
from scifm.config import build_config
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for

RESULTS = Path(__file__).parent / "results" / "ground-motion.csv"
SUSPECTS = RESULTS.with_name("ground-motion-suspects.csv")
USUAL = "as it is"
CASES: dict[str, dict[str, Any]] = {
    USUAL: {},
    "no term of a whole record": {"network": {"static": 0}},
    "prior rolled out by itself": {"network": {"prior": "own"}},
    "mean of levels, no scatter": {"network": {"likelihood": "mean"}},
}
COLUMNS = {
    "median spectrum, log₁₀": "bias", "slope in M": "magnitude", "slope in ln R": "distance", "scatter": "sigma",
    "told apart": "score",
}  # fmt: skip


def told(likeness: Likeness, score: float | None, centers: torch.Tensor) -> dict[str, float]:
    """Return the largest deviations over frequencies."""
    worst = likeness.sigma.abs().argmax()
    return {
        "bias": float(likeness.bias.abs().max()), "mean_bias": float(likeness.bias.abs().mean()),
        "magnitude": float(likeness.slopes[0].abs().max()), "distance": float(likeness.slopes[1].abs().max()),
        "sigma": float(likeness.sigma.abs().max()), "sigma_signed": float(likeness.sigma[worst]),
        "sigma_at": float(centers[worst]), "score": float("nan") if score is None else score,
    }  # fmt: skip


def asked(case: str, seed: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of one generator, and of other true records where it is the usual one."""
    store = make_records(RecordsRecipe(seed=seed), given.folder / f"records-{seed}")
    change = CASES[case]
    tree = {"store": str(store.path), "name": f"seed-{seed}", "seed": seed, **change}
    if given.steps is not None:
        tree["training"] = {"num_steps": given.steps}
    recipe = build_config(ImitateRecipe, _filled(tree), source=case)
    start = time.process_time()
    run = imitate(recipe, out=given.folder / "runs")
    generator = load_generator(run)
    how = AssessRecipe(num_records=given.num_records, seed=seed)
    trained = time.process_time()
    found = compared(generator, store, how)
    about = {"seed": seed, "steps": recipe.training.num_steps, "weights": generator.num_params}
    times = {"training_cpu_s": trained - start, "comparing_cpu_s": time.process_time() - trained}
    phases = {"convergence": found.convergence}
    rows = [{"case": case, **about, **told(found.likeness, found.score, found.centers), **phases, **times}]
    if case == USUAL and found.itself is not None:
        beside = told(found.itself, found.score_itself, found.centers)
        rows.append({"case": "other true records", **about, **beside, **dict.fromkeys((*phases, *times), float("nan"))})
    return rows


def suspects(given: argparse.Namespace, seed: int = 0) -> list[dict[str, Any]]:
    """Return where records go wrong on their way, one step of it after the other, of the usual generator.

    Waveforms are made of the amplitudes of true records; of their true levels, each the mean power of many records of
    its conditions and terms, scattered; of the levels that the posterior sees in them; and of those that the prior
    draws for their conditions.
    """
    store = make_records(RecordsRecipe(seed=seed), given.folder / f"records-{seed}")
    tree = {"store": str(store.path), "name": f"seed-{seed}", "seed": seed}
    recipe = build_config(ImitateRecipe, _filled(tree), source=USUAL)
    generator = load_generator(imitate(recipe, out=given.folder / "runs"))
    config, centers, motion = generator.config, AssessRecipe().centers, StochasticMotion()
    events = given.num_records // 8
    still = motion.model_copy(update={"between": 0.0, "within": 0.0})
    true, plain = (own.draw(events, 4, generator_for(seed, "suspects")) for own in (motion, still))
    term = true.velocity.norm(dim=1) / plain.velocity.norm(dim=1)
    power = torch.stack([
        config.frames.amplitudes(motion.shaken(true.magnitude, true.distance, generator_for(seed, "power", k))).square()
        for k in range(20)
    ]).mean(dim=0)  # fmt: skip
    conditions = torch.stack([true.magnitude, true.distance], dim=1).float()
    levels = config.frames.levels(true.velocity, config.noise).float()[:, None, None]
    samples = Batch(generator.signature, config.grid, levels, conditions)
    told_levels = {
        "true levels": (power * term[:, None, None].square() + config.noise**2).log() / 2,
        "levels the posterior sees": generator.answers(samples).require_targets()[:, 0, 0].double(),
        "levels the prior draws": generator.drawn_levels(conditions, generator_for(seed, "prior")).double(),
    }
    ways = {"amplitudes of true records": config.frames.amplitudes(true.velocity)}
    for name, own in told_levels.items():
        ways[name] = own.exp() * texture(config, own, generator_for(seed, "texture"))
    regressors = torch.stack([true.magnitude, true.distance.log()], dim=1)
    spectra = smoothed_spectra(true.velocity, config.rate, centers)
    rows = []
    for name, amplitudes in ways.items():
        made = inverted(amplitudes, config.frames, config.num_samples, seed=seed)
        own = smoothed_spectra(made, config.rate, centers)
        alike = likeness(spectra, regressed(spectra.log(), regressors), own, regressed(own.log(), regressors))
        phases = float(spectral_convergence(made, amplitudes, config.frames).median())
        rows.append({"way": name, "seed": seed, "records": 4 * events, **told(alike, None, centers), "phases": phases})
    return rows


def _filled(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe whose tables are filled up from the defaults."""
    usual = ImitateRecipe(store=tree["store"])
    for name in ("network", "training"):
        tree[name] = {**getattr(usual, name).to_dict(), **tree.get(name, {})}
    return tree


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and compare all."""
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for case in given.only or CASES:
            if seed and case not in given.all_seeds:
                continue
            for row in asked(case, seed, given):
                rows.append(row)
                print(
                    ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
                    flush=True,
                )
            write_measured(given.out, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the largest deviation over frequencies of every seed, as Markdown."""
    lines = ["| generator | seeds | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        cells = []
        for name in COLUMNS.values():
            values = [row[name] for row in own]
            plain = name in ("bias", "score")
            cells.append(", ".join(f"{value:.3f}" if plain else f"{100 * value:.1f} %" for value in values))
        lines.append(f"| {case} | {', '.join(str(row['seed']) for row in own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ways_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what each step of the way does, as Markdown."""
    lines = [f"| waveforms of | {' | '.join([*list(COLUMNS)[:4], 'phases'])} |", "|---" * 6 + "|"]
    for row in rows:
        cells = [
            f"{row['bias']:.3f}",
            *(f"{100 * row[name]:.1f} %" for name in ("magnitude", "distance", "sigma", "phases")),
        ]
        lines.append(f"| {row['way']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("Whether made ground motion is like true motion")
    parser.add_argument("--folder", type=Path, required=True, help="where stores and runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each training, instead of the usual")
    parser.add_argument("--num-records", type=int, default=1000, dest="num_records")
    parser.add_argument("--only", nargs="*", choices=tuple(CASES))
    parser.add_argument("--all-seeds", nargs="*", default=[USUAL], choices=tuple(CASES), dest="all_seeds",
                        help="cases of which every seed is tried; of the others the first")  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="the page to put the table into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or 1)
    rows = run(given)
    ways = suspects(given)
    write_measured(given.out.with_name(SUSPECTS.name), ways)
    print(ways_table(ways))
    if given.docs is not None:
        put_into(given.docs, "ground motion", table(rows))


if __name__ == "__main__":
    main()
