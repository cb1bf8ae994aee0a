"""Is this code as fast as that of another commit? Both take turns, each in a process of its own.

``git worktree add DIR COMMIT``, then ``python benchmarks/against_commit.py --other DIR/src``; what the other code
needs and this one does not is found by ``PYTHONPATH``. Four things are timed that both must have under these names:
drawing 1,024 samples of Poisson's equation at 64² and 64 trajectories of Burgers' on 128 points, a step of
`scifm.pretrain` with the default network (batches of 32 at 64², sampling included), and the error that 300 such steps
reach. Each turn is a fresh process of either code; told are medians over turns, of the processor time of its threads
where ``--clock cpu``, and of the ratios of turns side by side.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from harness import Row, argument_parser, publish

CHILD = """
import json, sys, tempfile, time
import torch
import scifm
from scifm.fields.seeds import generator_for

threads, steps = int(sys.argv[1]), int(sys.argv[2])
clock = time.process_time if sys.argv[3] == "cpu" else time.perf_counter
torch.set_num_threads(threads)
system, grid = scifm.Poisson(anisotropy=scifm.Knob(1, 5)), scifm.Grid.square(64)
system.sample(1024, grid, generator_for(0, "warm"))
drawing = []
for turn in range(5):
    start = clock()
    system.sample(1024, grid, generator_for(turn, "timed"))
    drawing.append(clock() - start)
burgers, line, marching = scifm.Burgers(), scifm.Grid.square(128, num_spatial_dims=1), []
burgers.sample(8, line, generator_for(0, "warm"))
for turn in range(5):
    start = clock()
    burgers.sample(64, line, generator_for(turn, "timed"))
    marching.append(clock() - start)
recipe = {
    "system": {"name": "poisson", "knobs": {"anisotropy": [1, 5]}},
    "data": {"num_points": 64, "num_validation_samples": 256, "num_normalization_samples": 256},
    "training": {"num_steps": steps, "batch_size": 32, "learning_rate": 5e-3, "validate_every": steps,
                 "checkpoint_every": steps, "log_every": 10},
}
marks, errors = [], []
def observe(**event):
    if event["event"] == "train":
        marks.append((event["step"], clock()))
    if event["event"] == "valid":
        errors.append(event["relative_l2"])
with tempfile.TemporaryDirectory() as folder:
    scifm.pretrain(recipe, out=folder, observe=observe)
paces = sorted((b - a) / (n - m) for (m, a), (n, b) in zip(marks, marks[1:]))
middle = {"drawing": sorted(drawing)[2], "marching": sorted(marching)[2]}
print(json.dumps({**middle, "step": paces[len(paces) // 2], "error": errors[-1]}))
"""
MEASURED = {
    "drawing": ("drawing 1,024 samples", 1e3, "ms"),
    "marching": ("drawing 64 trajectories", 1e3, "ms"),
    "step": ("a training step", 1e3, "ms"),
}


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, required=True, metavar="SRC", help="folder that holds the other scifm")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    ours = Path(__file__).resolve().parents[1] / "src"
    found: dict[str, list[dict[str, float]]] = {"this": [], "other": []}
    for turn in range(options.turns):
        pair = [("this", ours), ("other", options.other.resolve())]
        for name, source in pair if turn % 2 else reversed(pair):
            found[name].append(measured(source, options.threads or 1, options.steps, options.clock))
    rows = []
    for key, (what, unit_factor, unit) in MEASURED.items():
        for name, turns in found.items():
            median = statistics.median(turn[key] for turn in turns)
            rows.append(Row(what, f"{name} code", unit_factor * median, unit))
        ratios = [a[key] / b[key] for a, b in zip(found["this"], found["other"], strict=True)]
        rows.append(Row(what, "this over other, median of turns", statistics.median(ratios), "ratio"))
    for name, turns in found.items():
        error = statistics.median(turn["error"] for turn in turns)
        rows.append(Row(f"{options.steps} steps", f"{name} code: relative L2", error, "1"))
    publish("This code beside that of another commit", rows, options.json)


def measured(source: Path, threads: int, steps: int, clock: str) -> dict[str, float]:
    """Return what a process of its own measures of the code in a folder."""
    path = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(threads), str(steps), clock]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
