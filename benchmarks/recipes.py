"""Which recipe learns fastest: one change at a time against the library's defaults, on equal budgets of time.

Every candidate trains on Poisson (anisotropy 1 to 5, 64²) for the same number of seconds, on a schedule as long as the
steps that fit into them (timed first), for each seed; its score is the relative L2 error on 256 unseen samples with the
best of the candidate's own three learning rates (all are in the rows). "fixed store" draws its samples once and repeats
them. Muon is written out because torch's takes parameters of two dimensions only. SOAP comes from pytorch_optimizer,
which is not among our dependencies: ``pip install pytorch_optimizer``; without it that row is left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness import Row, argument_parser, publish
from scifm.data.normalize import fit_normalization
from scifm.data.stream import BatchSource, Epochs, Stream
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.objectives.supervised import RelativeL2, SummedSquaredError
from scifm.systems import Knob, Poisson
from scifm.training.pretrain import build_operator
from scifm.training.schedules import learning_rate_factor
from scifm.training.validation import sample_errors

try:
    import pytorch_optimizer
except ImportError:
    pytorch_optimizer = None

SYSTEM = Poisson(anisotropy=Knob(1, 5))
GRID = Grid.square(64)
BATCH_SIZE = 32


def draw(which: str, count: int) -> Batch:
    """Draw samples for one purpose, the same ones in every call."""
    return SYSTEM.sample(count, GRID, generator_for(0, "recipes", which))


def fresh_operator(*, seed: int, kind: str = "homogeneous", **network: Any) -> Operator:
    """Return an untrained operator."""
    normalization = fit_normalization(draw("fit", 512), SYSTEM.homogeneities, kind=kind)
    return build_operator(SYSTEM.signature, FNOConfig(**network), normalization, seed=seed)


class Muon(torch.optim.Optimizer):
    """AdamW, and Muon on whatever is a matrix: the mean over steps of the gradient, made orthogonal.

    Keller Jordan et al., 2024; five Newton-Schulz iterations. A mode's mixing matrix is complex, (2, modes, in, out):
    its real and imaginary parts are made orthogonal each by itself.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        self.rest = torch.optim.AdamW([p for p in self.param_groups[0]["params"] if p.dim() < 2], lr=lr / 5)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        lr = self.param_groups[0]["lr"]
        self.rest.param_groups[0]["lr"] = lr / 5
        self.rest.step()
        for p in self.param_groups[0]["params"]:
            if p.dim() < 2 or p.grad is None:
                continue
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.lerp_(p.grad, 0.05)
            p.sub_(_orthogonal(p.grad.lerp(momentum, 0.95)), alpha=lr * 0.2 * max(p.shape[-2:]) ** 0.5)


def _orthogonal(matrix: Tensor) -> Tensor:
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


@dataclass(frozen=True)
class Candidate:
    """What differs from the defaults."""

    network: dict[str, Any] = field(default_factory=dict)
    normalization: str = "homogeneous"
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    schedule: str = "one_cycle"
    batch_size: int = BATCH_SIZE
    optimizer: Callable[[Iterable[Tensor], float], torch.optim.Optimizer] = lambda p, lr: torch.optim.AdamW(
        p, lr=lr, weight_decay=0.0, fused=True
    )
    loss: Callable[[Batch, Batch], Tensor] = RelativeL2().compare
    average: float = 0.0
    stored: int = 0

    def source(self, seed: int) -> BatchSource:
        if not self.stored:
            return Stream(SYSTEM, GRID, batch_size=self.batch_size, seed=seed)
        return Epochs(draw(f"store {seed}", self.stored), batch_size=self.batch_size, seed=seed)


CANDIDATES = {
    "defaults": Candidate(),
    "first spectral weights: 1/4 of the default": Candidate({"spectral_init": 0.03125}),
    "first spectral weights: 4 times the default": Candidate({"spectral_init": 0.5}),
    "first spectral weights: the reference's, positive uniform": Candidate({"spectral_init": 0.0}),
    "no residual": Candidate({"residual": False}),
    "normalization: the reference's": Candidate(normalization="joint"),
    "latent grid: 32 points": Candidate({"latent_points": 32}),
    "latent grid: 36 points": Candidate({"latent_points": 36}),
    "full grid": Candidate({"latent_points": 0}),
    "schedule: cosine": Candidate(schedule="cosine"),
    "schedule: constant": Candidate(schedule="constant"),
    "schedule: constant, EMA of weights 0.99": Candidate(schedule="constant", average=0.99),
    "one cycle, EMA of weights 0.99": Candidate(average=0.99),
    "batch of 16": Candidate(batch_size=16),
    "batch of 64": Candidate(batch_size=64),
    "Muon": Candidate(optimizer=Muon, learning_rates=(3e-3, 1e-2, 3e-2)),
    "loss: summed squared error": Candidate(loss=SummedSquaredError().compare),
    "fixed store of 1,024": Candidate(stored=1024),
    "fixed store of 4,096": Candidate(stored=4096),
    "6 layers": Candidate({"num_layers": 6}),
    "width 48": Candidate({"width": 48}),
}


if pytorch_optimizer is not None:
    CANDIDATES["SOAP"] = Candidate(
        optimizer=lambda p, lr: pytorch_optimizer.SOAP(p, lr=lr, weight_decay=0.0, max_precondition_dim=64)
    )


def learn(
    candidate: Candidate, learning_rate: float, num_steps: int, seed: int, *, only: int | None = None
) -> tuple[Operator, float]:
    """Train, or take the first `only` steps; return the operator and the seconds they took."""
    operator = fresh_operator(seed=seed, kind=candidate.normalization, **candidate.network)
    source, optimizer = candidate.source(seed), candidate.optimizer(operator.parameters(), learning_rate)
    mean = (
        torch.optim.swa_utils.AveragedModel(
            operator, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(candidate.average)
        )
        if candidate.average
        else None
    )
    started = time.perf_counter()
    for step in range(num_steps if only is None else only):
        factor = learning_rate_factor(candidate.schedule, step, num_steps, warmup_fraction=0.1)
        optimizer.param_groups[0]["lr"] = learning_rate * factor
        batch = source.batch(step)
        optimizer.zero_grad()
        candidate.loss(operator(batch), batch).backward()
        optimizer.step()
        if mean is not None:
            mean.update_parameters(operator)
    final: nn.Module = operator if mean is None else mean.module
    assert isinstance(final, Operator)
    return final, time.perf_counter() - started


def rows_of(name: str, candidate: Candidate, seconds: float, seeds: int) -> list[Row]:
    """Train one candidate with each learning rate and seed."""
    learn(candidate, 1e-3, 1000, 0, only=3)
    num_steps = max(10, round(seconds * 20 / learn(candidate, 1e-3, 1000, 0, only=20)[1]))
    test, best = draw("test", 256), float("inf")
    rows = [Row(name, "steps", num_steps, "steps")]
    for rate in candidate.learning_rates:
        scores = [
            float(sample_errors(learn(candidate, rate, num_steps, seed)[0], test).mean()) for seed in range(seeds)
        ]
        rows.append(Row(name, f"learning rate {rate:g}: mean over seeds", statistics.mean(scores), "relative L2"))
        rows.append(Row(name, f"learning rate {rate:g}: range over seeds", max(scores) - min(scores), "relative L2"))
        best = min(best, statistics.mean(scores))
    return [*rows, Row(name, "best", best, "relative L2")]


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=6.0, help="budget of one training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    for name in arguments.only:
        rows += rows_of(name, CANDIDATES[name], arguments.seconds, arguments.seeds)
        print(f"{name}: {rows[-1].value:.4f}", flush=True)
    publish(f"Recipes, {arguments.seconds:g} s each", rows, arguments.json)


if __name__ == "__main__":
    main()
