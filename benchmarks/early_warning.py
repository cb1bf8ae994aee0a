"""What warnings of earthquakes are worth: from 200 stations of 4,096 points, noisy, late, of larger magnitudes.

A region's earthquakes of magnitude 3.5 to 4.5, points, are what networks are trained on, for about as long: the
convolutional recurrent one of WaveCastNet and a Fourier neural operator that marches, trained over fewer frames than it
takes and over more. All see 8 seconds at 200 points
that are other ones for each sample. Then they are asked about unseen events of that kind, seen everywhere, at fewer
stations, with noise and delays; and about larger ones, whose faults break for seconds, which they have never met.

``python benchmarks/early_warning.py --folder DIR --seeds 3 --docs docs/guides/early-warning.md`` keeps stores and runs
in the folder, so that it can be interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness import argument_parser, put_into, write_measured
from scifm.applications.early_warning.forecasting import Forecasts, WarnRecipe, forecasts_of
from scifm.applications.early_warning.making import EventRecipe, make_events
from scifm.applications.early_warning.peaks import covering, widened
from scifm.applications.early_warning.scores import by_event
from scifm.config import build_config
from scifm.data.store import Store
from scifm.fields.window import Window
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.training.pretrain import PretrainRecipe, pretrain

RESULTS = Path(__file__).parent / "results" / "early-warning.csv"
GIVEN, STATIONS, FRAMES = 8, 200, 32
FOURIER: dict[str, Any] = {"kind": "fno", "network": {"width": 32, "modes": 12, "mask_channels": True}}
NETWORKS: dict[str, tuple[dict[str, Any], int, int]] = {  # settings, frames of a march in training, steps
    "ConvLEM": ({"kind": "conv_recurrent", "network": {"width": 24, "halvings": 2, "mask_channels": True}}, 8, 700),
    "FNO, horizon 4": (FOURIER, 4, 2400),
    "FNO, horizon 12": (FOURIER, 12, 850),
}
LARGER = (5.0, 5.5, 6.0, 6.5)
CASES: dict[str, tuple[dict[str, Any], int]] = {  # settings of a warning, stations
    "as trained": ({}, STATIONS),
    "seen everywhere": ({}, 0),
    "50 stations": ({}, 50),
    "16 stations": ({}, 16),
    "noise 0.3": ({"noise": 0.3}, STATIONS),
    "noise 1": ({"noise": 1.0}, STATIONS),
    "delays of 1 frame": ({"delay": 1.0}, STATIONS),
}
COLUMNS = {
    "peaks off by ×": "factor", "map of peaks": "error", "correlation": "correlation", "waves": "wavefield",
    "time of peak, s": "late", "warned": "share_warned", "false": "share_false", "in 90 % bands": "covered",
}  # fmt: skip


def region(folder: Path, magnitude: Sequence[float], name: str, counts: Mapping[str, int]) -> Store:
    """Return earthquakes of one region."""
    settings = {"magnitude": list(magnitude), "num_frames": FRAMES, "num_events": dict(counts)}
    return make_events(build_config(EventRecipe, settings, source=name), folder / "stores" / name)


def trained(name: str, seed: int, store: Store, folder: Path, steps: int | None) -> Operator:
    """Return a network, trained or found in the folder."""
    model, horizon, usual = NETWORKS[name]
    steps = steps or usual
    tree = {
        "name": f"{name.lower().replace(', ', '-').replace(' ', '-')}-{seed}",
        "seed": seed,
        "model": model,
        "data": {"store": str(store.path), "history": GIVEN, "horizon": horizon, "stations": STATIONS,
                 "num_validation_samples": 64},
        "training": {"num_steps": steps, "batch_size": 8, "learning_rate": 2e-3, "validate_every": steps,
                     "objective": {"name": "huber", "delta": 0.2}},
    }  # fmt: skip
    return load_operator(pretrain(build_config(PretrainRecipe, tree, source=name), out=folder / "runs").path)


def measured(found: Forecasts, recipe: WarnRecipe, width: tuple[float, float]) -> dict[str, float]:
    """Return medians over events, of warnings and bands the parts of all places."""
    rows = by_event(found, recipe)
    told = {name: median(row[name] for row in rows) for name in ("factor", "error", "correlation", "wavefield", "late")}
    hits, missed, wrong = (sum(row[name] for row in rows) for name in ("warned", "missed", "false"))
    held, low, high = covering(found.draws.velocity, found.peaks.velocity, width, least=found.least)
    alone, _, _ = covering(found.draws.velocity, found.peaks.velocity, (1.645, 0.0), least=found.least)
    ahead = [row["ahead"] for row in rows if row["ahead"] == row["ahead"]]
    return {
        **told, "share_warned": hits / (hits + missed), "share_false": wrong / max(hits + wrong, 1e-30),
        "ahead": median(ahead) if ahead else 0.0, "covered": float(held.float().mean()),
        "covered_by_draws_alone": float(alone.float().mean()), "band": float((high / low).sqrt().median()),
    }  # fmt: skip


def asked(operator: Operator, stores: Mapping[str, Store], num_events: int) -> list[tuple[str, dict[str, float]]]:
    """Return what one network is worth in every case."""
    recipe, own = WarnRecipe(num_events=num_events), stores["train"]
    window = Window(GIVEN, FRAMES - GIVEN)
    rows = []
    for name, (change, stations) in CASES.items():
        how = recipe.model_copy(update=change)
        seen = Window(GIVEN, FRAMES - GIVEN, stations=stations)
        valid = forecasts_of(operator, own, seen, how, split="valid")
        test = forecasts_of(operator, own, seen, how, split="test")
        width = widened(valid.draws.velocity, valid.peaks.velocity, how.level, least=test.least)
        rows.append((name, measured(test, how, width)))
        if name == "as trained":
            usual, window = width, seen
    for magnitude in LARGER:
        test = forecasts_of(operator, stores[f"M {magnitude:g}"], window, recipe, split="test")
        rows.append((f"M {magnitude:g}", measured(test, recipe, usual)))
    return rows


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and ask all."""
    counts = {"train": given.num_events, "valid": 40, "test": 40}
    stores = {"train": region(given.folder, (3.5, 4.5), "events", counts)}
    for magnitude in LARGER:
        stores[f"M {magnitude:g}"] = region(given.folder, (magnitude,) * 2, f"m{magnitude:g}", {"train": 1, "test": 24})
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for name in given.only or NETWORKS:
            operator = trained(name, seed, stores["train"], given.folder, given.steps)
            for case, numbers in asked(operator, stores, given.asked):
                rows.append({"network": name, "seed": seed, "weights": operator.num_params, "case": case, **numbers})
                print(
                    f"{name}, seed {seed}, {case}: " + ", ".join(f"{k} {v:.3g}" for k, v in numbers.items()), flush=True
                )
            write_measured(given.out, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]], network: str) -> str:
    """Return medians over seeds, and their range, as Markdown."""
    own = [row for row in rows if row["network"] == network]
    lines = ["| asked | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for case in dict.fromkeys(row["case"] for row in own):
        cells = []
        for name in COLUMNS.values():
            values = sorted(float(row[name]) for row in own if row["case"] == case)
            percent = name in ("share_warned", "share_false", "covered")
            told = [f"{100 * v:.0f} %" if percent else f"{v:.2f}" for v in values]
            cells.append(told[0] if len(set(told)) == 1 else f"{told[len(told) // 2]} ({told[0]} to {told[-1]})")
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("What warnings of earthquakes are worth")
    parser.add_argument("--folder", type=Path, required=True, help="where stores and runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each training, instead of those that take about as long")
    parser.add_argument("--num-events", type=int, default=320, dest="num_events")
    parser.add_argument("--asked", type=int, default=24, help="events that are forecast in each case")
    parser.add_argument("--only", nargs="*", choices=tuple(NETWORKS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="the page to put the tables into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or 1)
    rows = run(given)
    if given.docs is not None:
        for name in dict.fromkeys(row["network"] for row in rows):
            put_into(given.docs, f"early warning, {name}", table(rows, name))


if __name__ == "__main__":
    main()
