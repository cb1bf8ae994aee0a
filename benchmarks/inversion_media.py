"""A medium from waves of one frequency: low wavenumbers, high ones, and high ones that begin at the answer of the low.

One source and 48 receivers with 5 % of noise in a random medium at 48², waves of k = 8 and k = 24 of one and the same
medium. The contrast is asked for by 32 principal components, through a network of ``helmholtz_medium`` and through the
solver. Told is how far the contrast is off, relative to its size, whether the solver agrees, and how long it took.

``python benchmarks/inversion_media.py --folder DIR --docs docs/guides/inversion.md``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import argument_parser, put_into, write_measured
from scifm.applications.inversion.asking import Inversion, InvertRecipe, inverted
from scifm.applications.inversion.making import ObserveRecipe, observe
from scifm.applications.inversion.observations import Observations
from scifm.config import build_config
from scifm.data.run_origin import RunOrigin
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.training.pretrain import PretrainRecipe, pretrain

RESULTS = Path(__file__).parent / "results" / "inversion-media.csv"
LOW, HIGH, POINTS = 8.0, 24.0, 48
WAYS = ("low", "high", "low, then high")


def trained(folder: Path, steps: int) -> Path:
    """Return the run of a network of waves in media."""
    tree = {
        "name": "media", "system": {"name": "helmholtz_medium"},
        "data": {"num_points": POINTS, "num_samples": 1500, "num_validation_samples": 64,
                 "num_normalization_samples": 256},
        "model": {"network": {"width": 32, "modes": 12}},
        "training": {"num_steps": steps, "batch_size": 16, "learning_rate": 3e-3, "validate_every": steps},
    }  # fmt: skip
    return pretrain(build_config(PretrainRecipe, tree, source="benchmark"), out=folder / "runs").path


def recorded(wavenumber: float, number: int, folder: Path) -> Observations:
    """Return recordings; the medium and the source hang on the number alone."""
    system = {"name": "helmholtz_medium", "knobs": {"wavenumber": [wavenumber, wavenumber]}}
    tree = {"system": system, "num_points": POINTS, "num_receivers": 48, "unknown": ["contrast"], "seed": number}
    return observe(build_config(ObserveRecipe, tree, source="benchmark"), folder / f"media-{number}-{wavenumber:g}.npz")


def off(made: Inversion) -> float:
    """Return how far the medium is off, relative to its size."""
    found, true = made.unknown.of(made.found.best.z[None])["contrast"][0], made.seen.truth["contrast"]
    return float((found - true).norm() / true.norm())


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Ask all."""
    place = find_model(trained(given.folder, given.steps))
    recorded_origin = RunOrigin.of_model(place)
    assert recorded_origin is not None
    operator, origin = load_operator(place.folder), recorded_origin.resolved()
    rows: list[dict[str, Any]] = []
    for number in range(given.media):
        seen = {"low": recorded(LOW, number, given.folder), "high": recorded(HIGH, number, given.folder)}
        for through in ("network", "solver"):
            how = InvertRecipe(through=through, num_components=32, num_starts=3, num_steps=60, refine=False)
            first: Tensor | None = None
            for way in WAYS:
                begun, clock = way == WAYS[2], time.perf_counter()
                recipe = how.model_copy(update={"num_starts": 2}) if begun else how
                made = inverted(operator, origin, seen[way.split()[-1]], recipe, begin=first if begun else None)
                first = made.found.best.z if way == WAYS[0] else first
                rows.append({
                    "problem": number, "through": through, "way": way, "off": off(made), "misfit": made.found.misfit,
                    "solver_misfit": made.solver_misfit, "content": made.content,
                    "adversarial": float(made.adversarial), "agreeing": made.found.agreeing,
                    "starts": len(made.found.places), "asked": made.found.num_asked,
                    "seconds": time.perf_counter() - clock,
                })  # fmt: skip
                print(rows[-1], flush=True)
                write_measured(given.out, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return each problem's error as Markdown."""
    numbers = sorted({int(row["problem"]) for row in rows})
    head = ("through", "wavenumber", *(f"medium {number + 1} off" for number in numbers), "content", "seconds")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for through in ("network", "solver"):
        for way in WAYS:
            own = [row for row in rows if row["through"] == through and row["way"] == way]
            own.sort(key=lambda row: int(row["problem"]))
            fine = sum(float(row["misfit"]) <= float(row["content"]) for row in own)
            cells = [f"{float(row['off']):.2f}" for row in own]
            seconds = sorted(float(row["seconds"]) for row in own)[len(own) // 2]
            lines.append(f"| {through} | {way} | " + " | ".join(cells) + f" | {fine} of {len(own)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("A medium from waves of one frequency")
    parser.add_argument("--folder", type=Path, required=True, help="where runs and recordings are kept")
    parser.add_argument("--media", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="of the training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="the page to put the table into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or 1)
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = run(given)
    if given.docs is not None:
        put_into(given.docs, "inversion, media", table(rows))


if __name__ == "__main__":
    main()
