"""A medium lit from four sides by waves of four wavenumbers, asked together: all at once, or from low to high.

24 receivers record, with 5 % of noise, what each of four sources makes of a random medium at 32², for k = 6, 9, 12 and
16: sixteen recordings of one medium. It is asked for by 60 principal components from the four of k = 6 alone, from the
four of k = 16 alone, from all sixteen at once, and from all of them with continuation, each stage beginning where the
one before ended; through networks of several seeds and through the solver. Strong media, through the solver alone, are
twice to ten times as strong as those that the networks know: there waves gain or lose a good part of a cycle.

Told are the relative error of the medium, which part of it intervals of 90 % hold, misfits by what was searched through
and by the solver, and the time on one thread.

``python benchmarks/inversion_together.py --folder DIR --docs docs/guides/inversion.md``
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness import argument_parser, put_into, told_row, write_measured
from scifm.applications.inversion.asking import InvertRecipe, inverted
from scifm.applications.inversion.making import ObserveRecipe, observe
from scifm.applications.inversion.observations import Observations
from scifm.applications.inversion.telling import fields_off
from scifm.config import build_config
from scifm.data.generate import generate
from scifm.data.origins import SystemOrigin
from scifm.fields.grid import Grid
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.systems.helmholtz_medium import HelmholtzMedium
from scifm.systems.knobs import Knob
from scifm.training.pretrain import PretrainRecipe, pretrain

RESULTS = Path(__file__).parent / "results" / "inversion-together.csv"
GRID, WAVENUMBERS, SIDES = Grid.square(32), (6.0, 9.0, 12.0, 16.0), range(4)
KNOWN, STRONG = (
    HelmholtzMedium(wavenumber=Knob(6, 18)),
    HelmholtzMedium(wavenumber=Knob(6, 18), strength=Knob(0.5, 0.5)),
)
WAYS: Mapping[str, tuple[tuple[float, ...], str | None]] = {
    "k = 6 alone": (WAVENUMBERS[:1], None),
    "k = 16 alone": (WAVENUMBERS[-1:], None),
    "all at once": (WAVENUMBERS, None),
    "from low to high": (WAVENUMBERS, "wavenumber"),
}


def trained(seed: int, folder: Path, steps: int) -> Path:
    """Return the run of a network of waves in media."""
    store = folder / "store-hm"
    if not (store / "card.json").is_file():
        generate(KNOWN, num_samples={"train": 2400, "valid": 300, "test": 300}, path=store, grid=GRID)
    tree = {
        "name": f"hm-{seed}", "seed": seed, "data": {"store": str(store)},
        "model": {"kind": "fno", "network": {"width": 24, "modes": 12, "latent_points": 0, "position": True}},
        "training": {"num_steps": steps, "batch_size": 16, "learning_rate": 3e-3},
    }  # fmt: skip
    return pretrain(build_config(PretrainRecipe, tree, source="benchmark"), out=folder / "runs").path


def recorded(system: HelmholtzMedium, wavenumbers: Sequence[float], medium: int, folder: Path) -> list[Observations]:
    """Return the recordings of one medium from all sides."""
    files = []
    for wavenumber in wavenumbers:
        entries = system.where(wavenumber=wavenumber).to_dict()
        for side in SIDES:
            tree = {"system": entries, "num_points": 32, "num_receivers": 24, "unknown": ["contrast"], "seed": medium,
                    "experiment": side}  # fmt: skip
            files.append(observe(build_config(ObserveRecipe, tree, source="benchmark"), folder / "recordings.npz"))
    return files


def asked(case: str, way: str, medium: int, place: Path | None, folder: Path) -> dict[str, Any]:
    """Return what one inversion found; through the solver where no network is given."""
    system = STRONG if case == "strong" else KNOWN
    wavenumbers, continuation = WAYS[way]
    recipe = InvertRecipe(
        through="solver" if place is None else "network", num_components=60, num_starts=2, num_steps=60, num_usual=400,
        refine=False, continuation=continuation, seed=medium,
    )  # fmt: skip
    operator = None if place is None else load_operator(find_model(place).folder)
    files = recorded(system, wavenumbers, medium, folder)
    began = time.process_time()
    made = inverted(operator, SystemOrigin.of(system, GRID), files, recipe)  # type: ignore[arg-type]
    off, held = fields_off(made, recipe)["contrast"]
    by_solver = made.found.misfit if made.solver_misfit is None else made.solver_misfit
    return {
        "off": off, "held": held, "misfit": made.found.misfit, "solver_misfit": by_solver, "content": made.content,
        "adversarial": float(made.adversarial), "asked": made.found.num_asked, "search": made.seconds[0],
        "seconds": time.process_time() - began,
    }  # fmt: skip


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each inversion; those that were done before lie in the folder."""
    file = given.folder / "together.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    yield from done
    keys = {(row["case"], row["network"], row["way"], row["medium"]) for row in done}
    ways = [(case, seed, way) for seed in given.seeds for case in ("as trained",) for way in WAYS]
    ways = [("as trained", None, way) for way in WAYS] + ways + [("strong", None, way) for way in WAYS]
    for medium in range(given.media):
        for case, seed, way in ways:
            network = "" if seed is None else f"seed {seed}"
            if (case, network, way, medium) in keys:
                continue
            place = None if seed is None else trained(seed, given.folder, given.steps)
            row = {"case": case, "network": network, "way": way, "medium": medium}
            row |= asked(case, way, medium, place, given.folder)
            with file.open("a") as target:
                target.write(json.dumps(row) + "\n")
            print(told_row(row), flush=True)
            yield row


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return medians over media and networks as Markdown, the least and the largest in brackets."""
    head = (
        "media",
        "through",
        "recordings",
        "off",
        "in 90 % intervals",
        "misfit",
        "by the solver",
        "adversarial",
        "seconds",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    kinds = [("as trained", "network"), ("as trained", "solver"), ("strong", "solver")]
    for case, through in kinds:
        for way in WAYS:
            own = [
                r
                for r in found
                if (r["case"], r["way"]) == (case, way) and bool(r["network"]) == (through == "network")
            ]
            if not own:
                continue
            off = sorted(100 * row["off"] for row in own)
            held, misfit, solver, seconds = (
                median(r[n] for r in own) for n in ("held", "misfit", "solver_misfit", "seconds")
            )
            odd = f"{sum(int(row['adversarial']) for row in own)} of {len(own)}" if through == "network" else "–"
            lines.append(
                f"| {case} | {through} | {way} | {median(off):.0f} % ({off[0]:.0f} to {off[-1]:.0f}) "
                f"| {100 * held:.0f} % | {misfit:.2f} | {solver:.2f} | {odd} | {seconds:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("A medium lit from four sides by waves of four wavenumbers")
    parser.add_argument("--folder", type=Path, required=True, help="where networks, recordings and rows are kept")
    parser.add_argument("--media", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of the networks")
    parser.add_argument("--steps", type=int, default=3000, help="of each training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="the page to put the table into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or 1)
    given.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row in rows(given):
        found.append(row)
        write_measured(given.out, found)
    if given.docs is not None:
        put_into(given.docs, "inversion, together", table(found))


if __name__ == "__main__":
    main()
