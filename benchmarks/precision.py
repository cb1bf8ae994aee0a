"""How exact each precision is, and whether training notices.

First, values and gradients of one network on one batch of Poisson problems against float64, relative L2. Then the same
training run in each precision, its error on 256 unseen samples over several seeds: a precision is harmless where its
errors lie among those of float32. "float32, torch" is the same without the compiled kernels.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from harness import Row, argument_parser, publish, put_into
from recipes import BATCH_SIZE, GRID, SYSTEM, draw, fresh_operator
from scifm.data.stream import Stream
from scifm.fields.batch import Batch
from scifm.models.operator import Operator
from scifm.models.parts import kernels, pointwise
from scifm.objectives.supervised import RelativeL2
from scifm.training.loop import TrainingConfig, train
from scifm.training.validation import sample_errors

PRECISIONS = ("float32", "float32, torch", "bf16-mixed")


def value_and_gradient(operator: Operator, batch: Batch, precision: str) -> tuple[Tensor, Tensor]:
    """Return the answer and the gradient of the training loss, flat, in float64."""
    operator.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        answered = operator(batch)
    RelativeL2().compare(answered, batch).backward()
    gradient = torch.cat([parameter.grad.double().flatten() for parameter in operator.parameters()])
    return answered.require_targets().detach().double(), gradient


def errors(precision: str) -> dict[str, float]:
    """Return relative L2 errors against float64."""
    operator, batch = fresh_operator(seed=0), draw("test", BATCH_SIZE)
    answer, gradient = value_and_gradient(operator, batch, precision)
    exact = value_and_gradient(fresh_operator(seed=0).double(), batch.to(dtype=torch.float64), "float64")
    named = {"value": (answer, exact[0]), "gradient": (gradient, exact[1])}
    return {name: float((got - truth).norm() / truth.norm()) for name, (got, truth) in named.items()}


def trained(precision: str, num_steps: int, seed: int) -> float:
    """Return the error after training."""
    operator = fresh_operator(seed=seed)
    arithmetic = "bf16-mixed" if precision == "bf16-mixed" else "32-true"
    config = TrainingConfig(num_steps=num_steps, precision=arithmetic, accelerator="cpu")
    train(operator, Stream(SYSTEM, GRID, batch_size=BATCH_SIZE, seed=seed), config=config)
    return float(sample_errors(operator, draw("test", 256)).mean())


def _nowhere(tensor: Tensor) -> None:
    return None


def in_precision(precision: str, run: Callable[[], object]) -> object:
    if precision != "float32, torch":
        return run()
    # a Mock would keep every tensor it is called with
    with mock.patch.object(kernels, "native_for", _nowhere), mock.patch.object(pointwise, "native_for", _nowhere):
        return run()


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows, lines = [], ["| precision | value | gradient | error after training, by seed |", "|---|---|---|---|"]
    for precision in PRECISIONS:
        found = in_precision(precision, lambda precision=precision: errors(precision))
        after = [
            in_precision(precision, lambda p=precision, s=seed: trained(p, arguments.steps, s))
            for seed in range(arguments.seeds)
        ]
        rows += [
            Row(precision, f"{name}: error against float64", value, "relative L2") for name, value in found.items()
        ]
        rows += [Row(precision, f"after training, seed {s}", value, "relative L2") for s, value in enumerate(after)]
        rows.append(Row(precision, "after training, mean", statistics.mean(after), "relative L2"))
        listed = " · ".join(f"{value:.4f}" for value in after)
        lines.append(f"| {precision} | {found['value']:.1e} | {found['gradient']:.1e} | {listed} |")
    publish(f"Precision, {arguments.steps} steps", rows, arguments.json)
    if arguments.docs:
        note = f"Poisson, anisotropy 1 to 5, 64², the default network, {arguments.steps} steps of {BATCH_SIZE} samples."
        put_into(arguments.docs, "benchmarks/precision.py", f"{note}\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
