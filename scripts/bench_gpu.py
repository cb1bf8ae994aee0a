"""All that wants a GPU, in one command: the tests marked ``gpu``, a step beside others, trainings if asked.

    make bench-gpu                     # tests, then a step and an answer in float32, TensorFloat-32 and bfloat16
    make bench-gpu GPU="--paper"       # and the reference paper's pre-training, and one of many physics, whole
    make bench-gpu GPU="--train poisson-reference --steps 2560"      # a recipe for some of its steps
    make bench-gpu GPU="--device cpu --cases 7 --train poisson-tiny --steps 4"       # tries this script

Tables are CSV with the hardware named in each row; they go to ``build/bench-gpu``, or where ``--out`` says. Without a
CUDA device it says so and ends with status 1. The peer is measured where it is installed (neuraloperator==2.0.0).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from accelerator import require_device  # noqa: E402 - a script beside them
from harness import Row, publish  # noqa: E402
from scifm.config import read_toml  # noqa: E402
from scifm.training.pretrain import PretrainRecipe, pretrain  # noqa: E402

PAPER = {"poisson-reference": ["data.num_samples=32768"], "paper/multiphysics-small": []}
"""The reference paper's pre-training with its stored samples, and the small one of many physics: name, what is set."""
PRECISIONS = {"cuda": ("float32", "tf32", "bf16"), "cpu": ("float32",)}
CASES = (0, 1, 2, 3, 4, 5, 6)


def main() -> None:
    """Run what was asked for; end with status 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda; cpu tries the script")
    parser.add_argument("--cases", type=int, nargs="+", default=CASES, help="rows of benchmarks/step.py, from 0")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-tests", action="store_true", help="leave the tests out")
    parser.add_argument("--no-compile", action="store_true", help="leave out what goes through torch.compile")
    parser.add_argument("--paper", action="store_true", help=f"also train {' and '.join(PAPER)}")
    parser.add_argument("--train", action="append", default=[], metavar="RECIPE", help="also train this; repeatable")
    parser.add_argument("--steps", type=int, help="end trainings after so many steps, instead of at their end")
    parser.add_argument("--out", type=Path, default=Path("build/bench-gpu"), help="folder of the tables")
    options = parser.parse_args()
    device = require_device(options.device).type
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    if not options.no_tests and not run("-m", "pytest", "-m", "gpu", "-rA", "--no-header", "tests"):
        failed.append("the tests marked gpu")
    for precision in PRECISIONS[device]:
        about = ["--device", device, "--precision", precision, "--repeats", str(options.repeats)]
        about += ["--cases", *map(str, options.cases), "--json", str(options.out / f"step-{precision}.csv")]
        if not run("benchmarks/step.py", *about, *([] if options.no_compile else ["--compile"])):
            failed.append(f"benchmarks/step.py in {precision}")
    asked = {**(PAPER if options.paper else {}), **{name: PAPER.get(name, []) for name in options.train}}
    rows = [row for name, settings in asked.items() for row in train(name, settings, device, options)]
    if rows:
        publish("Trainings", rows, options.out / "trainings.csv")
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}; the lines above say why.")
    print(f"Tables: {options.out}")


def run(*words: str) -> bool:
    """Run a Python program in the repository; return whether it ended well."""
    print(f"== {' '.join(words)}", flush=True)
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    return not subprocess.run([sys.executable, *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": path}).returncode


def train(name: str, settings: list[str], device: str, options: argparse.Namespace) -> list[Row]:
    """Pre-train by a recipe; return how long it took and what it came to."""
    print(f"== {name}", flush=True)
    settings = [*settings, f"training.accelerator={device}"]
    if options.steps is not None:
        settings += [f"training.num_steps={options.steps}"]
    recipe = PretrainRecipe.read(name, overrides=settings)
    done = pretrain(recipe, out=options.out / "runs")
    events = done.metrics()
    last = [event for event in events if event["event"] == "valid"][-1]
    steps = recipe.training.num_steps
    trained = sum(event["seconds"] for event in events if event["event"] == "train" and event["step"] == steps)
    case = f"{name}, {steps} of {read_toml(name)['training']['num_steps']} steps"
    return [
        Row(case, "wall clock of the run, sampling and validation included", done.seconds, "s"),
        Row(case, "a step", 1e3 * trained / steps, "ms"),
        Row(case, f"relative L2 on {recipe.data.num_validation_samples} held-out samples", last["relative_l2"], "1"),
    ]


if __name__ == "__main__":
    main()
