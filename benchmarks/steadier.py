"""Which way of training keeps a forecast true for longest, and does it stay on the attractor for 500 steps?

Each way trains the same network on the same trajectories of a chaotic system for the same wall time, from the same
first weights; a march of m steps costs m times as much a step, so it takes fewer. Then each marches 500 steps from
unseen states. Told are VRMSE over the first windows, the time until the correlation with the truth falls below 0.8, how
many forecasts left every bound, and the energy of the last 100 steps over the solver's in three bands of the
wavenumbers that the solver keeps, the resolved ones: a forecast that has parted from the truth should still look like
it.

Numbers stay in ``--stores``: started again, only what is missing is done. ``--clock cpu`` counts the seconds
that the processors gave, a thread, for a machine that others use too.

``--also conditioning`` adds coefficients and lead time in every layer in place of the first map only.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import scifm
from harness import Row, argument_parser, publish
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.evaluation.forecast import correlation
from scifm.evaluation.pointwise import vrmse
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.models.rollout import rollout
from scifm.systems.catalog import system_from_dict
from scifm.systems.evolving import Evolving
from scifm.training.pretrain import pretrain

SYSTEMS: dict[str, dict[str, Any]] = {
    "kuramoto_sivashinsky": {
        "options": {"spin_up": 100.0, "num_frames": 17},
        "num_points": 128,
        "modes": 42,
        "width": 32,
    },
    "navier_stokes": {"options": {"spin_up": 10.0, "num_frames": 9}, "num_points": 32, "modes": 10, "width": 32},
}
WAYS: dict[str, dict[str, Any]] = {
    "one step": {},
    "noise": {"objective": {"name": "relative_l2", "noise": 0.01}},
    "march of 4": {"horizon": 4},
    "pushforward of 4": {"horizon": 4, "objective": {"name": "relative_l2", "through": 1}},
}
CONDITIONED = {"one step, every layer": {"conditioning": "layers"}}
COUNTS = {"train": 256, "valid": 8, "test": 8}
BATCH, NUM_STARTS, LONG, LAST = 16, 16, 500, 100


def recipe(name: str, way: dict[str, Any], num_steps: int) -> dict[str, Any]:
    about = SYSTEMS[name]
    network = {
        "width": about["width"],
        "modes": about["modes"],
        "projection_width": 2 * about["width"],
        "latent_points": 0,
    }
    network |= {key: way[key] for key in ("conditioning",) if key in way}
    training = {"num_steps": num_steps, "batch_size": BATCH, "learning_rate": 3e-3, "validate_every": num_steps}
    training |= {"checkpoint_every": num_steps, "accelerator": "cpu"}
    training |= {"objective": way["objective"]} if "objective" in way else {}
    return {
        "name": name,
        "data": {"horizon": way.get("horizon", 1), "num_validation_samples": 32},
        "model": {"network": network},
        "training": training,
    }


def trained(
    name: str, way: dict[str, Any], store: Store, seconds: float, folder: Path, clock: Callable[[], float]
) -> tuple[Operator, int]:
    """Return an operator trained for about so long, its steps timed beforehand on two short runs."""
    taken, few = [], 12
    for steps in (few - 1, few, 5 * few):  # the first brings in what comes once, and is not counted
        begin = clock()
        pretrain(recipe(name, way, steps), store=store, out=folder / "timing")
        taken.append(clock() - begin)
    if taken[2] <= taken[1]:
        raise SystemExit(f"60 steps took no more time than 12 ({taken[1:]} s): the machine is too busy to time them.")
    num_steps = max(few, round(seconds * 4 * few / (taken[2] - taken[1])))
    run = pretrain(recipe(name, way, num_steps), store=store, out=folder)
    return scifm.load_operator(run.path / "model"), num_steps


def bands(frames: torch.Tensor, grid: Grid, keeps: float) -> torch.Tensor:
    """Return the mean energy of states ``(batch, time, channel, *space)`` in three bands of the kept wavenumbers."""
    dims = tuple(range(3, frames.dim()))
    energy = torch.fft.fftn(frames.double(), dim=dims).abs().square().mean(dim=(0, 1, 2))
    waves = torch.meshgrid(*(torch.fft.fftfreq(n, 1 / n).abs() for n in grid.num_points), indexing="ij")
    highest = torch.stack([wave / (n / 2) for wave, n in zip(waves, grid.num_points, strict=True)]).amax(0) / keeps
    inside = [(highest > low / 3) & (highest <= (low + 1) / 3) for low in range(3)]
    return torch.stack([energy[where].sum() for where in inside])


def judged(name: str, operator: Operator, starts: scifm.Batch, system: Evolving) -> list[tuple[str, float, str]]:
    truth, grid = starts.require_targets(), starts.grid
    march = rollout(operator, starts, LONG)
    frames = torch.cat([frame.require_targets() for frame in march], dim=1)
    near = frames[:, :30]
    errors, related = (
        vrmse(near, truth[:, :30], grid).mean(dim=(0, 2)),
        correlation(frames, truth[:, : frames.shape[1]]),
    )
    alive = related.amin(dim=2) >= 0.8
    until = torch.where(alive.all(1), alive.shape[1], (~alive).float().argmax(1)).float()
    step = float(starts.lead_time[0, 0]) if starts.lead_time is not None else 1.0
    found = [("VRMSE, step 1", float(errors[0]), "1"), ("VRMSE, steps 6–12", float(errors[5:12].mean()), "1")]
    found += [("VRMSE, steps 13–30", float(errors[12:30].mean()), "1")]
    found += [("correlation above 0.8 for", float(until.median()) * step, "time")]
    found += [("left every bound", float((march.lost_at > 0).sum()), f"of {NUM_STARTS}")]
    kept = march.lost_at == 0
    if kept.any() and frames.shape[1] == LONG:
        keeps = getattr(system, "keeps", 1.0)
        ratio = bands(frames[kept][:, -LAST:], grid, keeps) / bands(truth[:, -LAST:], grid, keeps)
        found += [
            (f"energy, {band} band", float(r), "of the truth's")
            for band, r in zip(("low", "middle", "high"), ratio, strict=True)
        ]
    return found


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0, help="training time of each way")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: seconds of processors, a thread")
    parser.add_argument("--stores", type=Path, default=Path("stores/steadier"), help="where data and numbers are kept")
    parser.add_argument("--also", choices=["conditioning"])
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    threads = torch.get_num_threads()
    clock = time.perf_counter if options.clock == "wall" else lambda: time.process_time() / threads
    rows, ways = list[Row](), {**WAYS, **(CONDITIONED if options.also else {})}
    for name in options.systems:
        about = SYSTEMS[name]
        system = system_from_dict({"name": name, "options": about["options"]})
        assert isinstance(system, Evolving)
        grid = Grid.square(about["num_points"], num_spatial_dims=system.signature.num_spatial_dims)
        long = replace(system, num_frames=LONG + 1)  # type: ignore[type-var]
        starts = long.sample(NUM_STARTS, grid, generator_for(1, "benchmark", name))
        store = generate(system, num_samples=COUNTS, num_points=about["num_points"], path=options.stores / name)
        for way, settings in ways.items():
            about = {"minutes": options.minutes, "clock": options.clock, "threads": threads, "store": store.content}
            file = options.stores / "results" / f"{name}-{way.replace(' ', '-').replace(',', '')}.json"
            kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
            if kept.get("about") != about:
                with tempfile.TemporaryDirectory() as folder:
                    operator, num_steps = trained(name, settings, store, 60 * options.minutes, Path(folder), clock)
                case = f"{name} {' × '.join(map(str, grid.num_points))}, {way}"
                found = [("training steps", num_steps, "1"), *judged(name, operator, starts, system)]
                made = [asdict(Row(case, *own)) for own in found if math.isfinite(own[1])]
                kept = {"about": about, "rows": made}
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(kept, indent=1), encoding="utf-8")
                print(f"{case}: {num_steps} steps", flush=True)
            rows += [Row(**row) for row in kept["rows"]]
    publish("Ways of training a forecast, after equal time", rows, options.json)


if __name__ == "__main__":
    main()
