"""Long Expressive Memory beside its published results: series of a nerve, and two numbers to be added.

``series``: FitzHugh–Nagumo, v̇ = v − v³/3 − w + 1/2, ẇ = 0.02 (v + 0.7 − 0.8 w), v(0) in (−1, 1), w(0) = 0, by SciPy's
RK45 at its usual tolerances on 0 … 400; of 1001 values of v each is predicted from those before it. 128 series to train
on, 128 to validate, 1024 to test; width 16, Adam at 0.00904, batches of 32, mean squared error; all through a store and
the training of every other network here. The published code's log has the errors it is set beside.

``adding``: of two numbers a step, drawn evenly from 0 to 1 and a mark, those two that are marked are to be added.

``speed``: an epoch of ``series`` beside a loop over cells in torch's operations and beside torchrecurrent's LEM (whose
slow state takes the fast one of before), alternately in one process.

``python benchmarks/sequences.py series --seeds 3 --docs docs/guides/series.md``
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from harness import Row, alternate, argument_parser, medians, publish, put_into, write_measured
from scifm.config import build_config
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import import_data
from scifm.data.store import Store
from scifm.data.stream import Epochs
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.window import Window
from scifm.models.parts.recurrence import LEM
from scifm.models.recurrent import Recurrent, RecurrentConfig
from scifm.objectives.supervised import MeanSquaredError
from scifm.training.loop import TrainingConfig, train
from scifm.training.pretrain import build_operator

PUBLISHED = {10: 0.0915, 20: 0.0452, 50: 0.0226, 60: 0.0192, 100: 0.0112, 200: 0.0057, 300: 0.0034, 400: 0.0027}
"""Root mean square errors on validation series after so many epochs, from the log of the published code."""
PUBLISHED_TEST = 0.002377
RESULTS = Path(__file__).parent / "results"
_SERIES, _FRAMES = {"train": 128, "valid": 128, "test": 1024}, 1001


def nerve(folder: Path, seed: int) -> Store:
    """Return a store of series v of FitzHugh–Nagumo."""
    generator, times = np.random.default_rng(seed), np.linspace(0, 400, _FRAMES)

    def rates(_: float, state: Sequence[float]) -> list[float]:
        v, w = state
        return [v - v**3 / 3 - w + 0.5, 0.02 * (v + 0.7 - 0.8 * w)]

    def one() -> Any:
        return solve_ivp(rates, (0, 400), [generator.uniform(-1, 1), 0.0], t_eval=times).y[0]

    total = sum(_SERIES.values())
    np.savez(folder / "nerve.npz", voltage=np.stack([one() for _ in range(total)]), time=times)
    shares = {name: count / total for name, count in _SERIES.items()}
    fields: dict[str, Any] = {"voltage": {"array": "voltage", "axes": ["trajectory", "time"]}}
    mapping = DataMapping(format="arrays", time="time", fields=fields, splits=shares)
    return import_data(folder / "nerve.npz", folder / "store", mapping)


def untouched(signature: Signature) -> Normalization:
    """Return the normalization that leaves numbers as they are."""
    identity = Normalization.identity(num_inputs=len(signature.inputs), num_coefficients=0, num_outputs=1)
    return Normalization.from_dict({**identity.to_dict(), "kind": "none"})


def error(operator: Recurrent, samples: Batch) -> float:
    """Return the root mean square error over samples and times."""
    answer = operator.answers(samples, batch_size=256).require_targets()
    return float((answer - samples.require_targets()).square().mean().sqrt())


def published_recipe(num_steps: int, learning_rate: float, batch_size: int, log_every: int) -> TrainingConfig:
    """Return how the published code trains: Adam, no decay, one learning rate."""
    settings = {
        "num_steps": num_steps, "learning_rate": learning_rate, "batch_size": batch_size, "weight_decay": 0.0,
        "schedule": "constant", "gradient_clip": None, "log_every": log_every,
        "objective": MeanSquaredError(), "patience": None,
    }  # fmt: skip
    return build_config(TrainingConfig, settings, source="this benchmark")


def series(folder: Path, seed: int, num_epochs: int) -> list[dict[str, Any]]:
    """Return the errors of a training at the epochs that the published log tells, and of the best one in the test."""
    store, window = nerve(folder, seed), Window(1, _FRAMES - 1, observed=True)
    splits = {name: store.split(name, window).load() for name in _SERIES}
    batch_size, every = 32, _SERIES["train"] // 32
    signature = store.signature
    operator = build_operator(signature, RecurrentConfig(width=16), untouched(signature), seed=seed)
    assert isinstance(operator, Recurrent)
    assert operator.num_params == 1233, operator.num_params
    rows: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Tensor]] = (math.inf, {})

    def look(**event: Any) -> None:
        nonlocal best
        if event["event"] != "train":
            return
        found, epoch = error(operator, splits["valid"]), event["step"] // every
        if found < best[0]:
            best = found, {name: own.clone() for name, own in operator.state_dict().items()}
        if epoch in PUBLISHED:
            rows.append({"seed": seed, "epoch": epoch, "split": "valid", "rmse": found, "published": PUBLISHED[epoch]})
            print(f"seed {seed}, epoch {epoch}: {found:.4f} (published {PUBLISHED[epoch]})", flush=True)

    source = Epochs(splits["train"], batch_size=batch_size, seed=seed)
    train(operator, source, config=published_recipe(every * num_epochs, 0.00904, batch_size, every), observe=look)
    operator.load_state_dict(best[1])
    test = {"seed": seed, "epoch": num_epochs, "split": "test", "rmse": error(operator, splits["test"])}
    print(f"seed {seed}, test: {test['rmse']:.5f} (published {PUBLISHED_TEST} after 400 epochs)", flush=True)
    return [*rows, {**test, "published": PUBLISHED_TEST if num_epochs == 400 else ""}]


def sums(num_samples: int, num_steps: int, seed: int) -> Batch:
    """Return the task of adding: values and marks, one in each half, and the sum of the two marked values."""
    generator = torch.Generator().manual_seed(seed)
    values, marks = torch.rand(num_samples, num_steps, generator=generator), torch.zeros(num_samples, num_steps)
    half = num_steps // 2
    for start, length in ((0, half), (half, num_steps - half)):
        places = start + torch.randint(length, (num_samples, 1), generator=generator)
        marks.scatter_(1, places, 1.0)
    names = Signature(("value", "mark"), (), ("sum",), 1, evolves=True)
    inputs = torch.stack([values, marks], dim=2).unsqueeze(-1)
    total = (values * marks).sum(1).view(-1, 1, 1, 1)
    return Batch(names, Grid.place(), inputs, values.new_zeros(num_samples, 0), total)


def adding(seed: int, *, width: int, time_step: float, learning_rate: float, num_steps: int) -> list[dict[str, Any]]:
    """Return the mean squared error on 1000 fresh sequences of 100 steps, on the way."""
    config = RecurrentConfig(width=width, time_step=time_step, history=100)
    samples, fresh = sums(50 * num_steps, 100, seed), sums(1000, 100, 10_000 + seed)
    operator = build_operator(samples.signature, config, untouched(samples.signature), seed=seed)
    assert isinstance(operator, Recurrent)
    rows: list[dict[str, Any]] = []

    def look(**event: Any) -> None:
        if event["event"] == "train":
            loss = error(operator, fresh) ** 2
            rows.append({"seed": seed, "width": width, "time_step": time_step, "step": event["step"], "mse": loss})
            print(f"seed {seed}, width {width}, step {event['step']}: {loss:.5f} (predicting 1: 0.1667)", flush=True)

    source = Epochs(samples, batch_size=50, seed=seed)
    train(operator, source, config=published_recipe(num_steps, learning_rate, 50, 200), observe=look)
    return rows


def speed(repeats: int) -> list[Row]:
    """Return the seconds of an epoch of ``series`` (four steps of 32 series of 1000 values), forward and back."""
    x = torch.randn(1000, 32, 1)

    def epoch(answer: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(4):
                answer().square().mean().backward()

        return run

    ours, loop = LEM(1, 16), LEM(1, 16, plain=True)
    contestants = {"all steps in C": epoch(lambda: ours(x)[0]), "a loop in torch": epoch(lambda: loop(x)[0])}
    if importlib.util.find_spec("torchrecurrent") is not None:
        from torchrecurrent import LEM as Peer  # type: ignore[import-not-found]  # noqa: N811

        peer = Peer(1, 16)
        contestants["torchrecurrent"] = epoch(lambda: peer(x)[0])
    seconds = medians(alternate(contestants, repeats=repeats))
    first = seconds["all steps in C"]
    rows = [Row(name, "an epoch", own, "s") for name, own in seconds.items()]
    return [*rows, *(Row(name, "over ours", own / first, "") for name, own in seconds.items())]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the errors by epoch, a column a seed, as Markdown."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "| epoch | " + " | ".join(f"seed {seed}" for seed in seeds) + " | published |",
        "|---" * (len(seeds) + 2) + "|",
    ]
    for split, epoch in dict.fromkeys((row["split"], row["epoch"]) for row in rows):
        own = [row for row in rows if (row["split"], row["epoch"]) == (split, epoch)]
        name = str(epoch) if split == "valid" else f"test, best of {epoch}"
        numbers = " | ".join(f"{row['rmse']:.4f}" for row in sorted(own, key=lambda row: row["seed"]))
        lines.append(f"| {name} | {numbers} | {own[0]['published']} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("Long Expressive Memory beside its published results")
    parser.add_argument("what", nargs="?", default="speed", choices=("series", "adding", "speed"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--docs", type=Path, help="the page to put the table of series into")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads or 1)
    if asked.what == "speed":
        publish("An epoch of 128 series of 1000 values, width 16", speed(asked.repeats), asked.json)
        return
    rows: list[dict[str, Any]] = []
    for seed in range(asked.seeds):
        if asked.what == "adding":
            rows += adding(seed, width=32, time_step=0.2, learning_rate=0.005, num_steps=1400)
            rows += adding(seed, width=128, time_step=0.0242, learning_rate=0.0026, num_steps=2000)
        else:
            with tempfile.TemporaryDirectory() as folder:
                rows += series(Path(folder), seed, asked.epochs)
        write_measured(RESULTS / f"sequences-{asked.what}.csv", rows)
    if asked.docs is not None and asked.what == "series":
        put_into(asked.docs, "series", table(rows))


if __name__ == "__main__":
    main()
