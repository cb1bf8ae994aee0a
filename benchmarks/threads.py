"""Do threads change what one seed gives? Pre-trains tiny networks in threads under load and compares all weights.

Each network is trained once by itself with each of a few seeds, and then many times in threads that share this process
and, with busy loops beside it, its processors. Weights must be, bit for bit, those of the training alone. The networks
are ours, neuraloperator's in our arithmetic, and one of someone else's that draws numbers for its weights and, by
dropout, in every step.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from harness import Row, argument_parser, publish
from scifm.training.pretrain import pretrain

SEEDS = 5
RECIPE: dict[str, Any] = {
    "system": {"name": "poisson"},
    "data": {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8},
    "training": {"num_steps": 6, "batch_size": 4, "validate_every": 3, "checkpoint_every": 3, "accelerator": "cpu"},
}
MODELS: dict[str, dict[str, Any]] = {
    "fno": {"network": {"width": 4, "modes": 3, "num_layers": 2, "projection_width": 8, "latent_points": 8}},
    "neuralop_fno": {"kind": "neuralop_fno", "network": {"n_modes": [4, 4], "hidden_channels": 4, "n_layers": 2}},
    "module": {"kind": "module", "network": {"target": "threads:Dropping", "arguments": {"width": 8}}},
}


class Dropping(nn.Sequential):
    """A network of someone else's for steady Poisson problems in two dimensions."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(4, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.2, self.training))


def weights_of(model: Mapping[str, Any], seed: int) -> str:
    """Pre-train and return the digest of the weights."""
    with tempfile.TemporaryDirectory(prefix="scifm-threads-") as folder:
        run = pretrain({**RECIPE, "model": dict(model), "seed": seed}, out=folder)
        return hashlib.sha256((run.path / "model" / "model.safetensors").read_bytes()).hexdigest()


def differing(model: Mapping[str, Any], *, num_runs: int, num_threads: int) -> int:
    """Return how many trainings in threads end with other weights than alone."""
    alone = [weights_of(model, seed) for seed in range(SEEDS)]
    if len({*alone}) < SEEDS:
        raise RuntimeError("Trainings with different seeds gave the same weights: nothing can be told from them.")
    with ThreadPoolExecutor(num_threads) as pool:
        ended = pool.map(lambda index: weights_of(model, index % SEEDS), range(num_runs))
        counted = Counter(found == alone[index % SEEDS] for index, found in enumerate(ended))
    return counted[False]


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="trainings in threads, of each network")
    parser.add_argument("--workers", type=int, default=8, help="threads that train")
    parser.add_argument("--busy", type=int, default=2, help="processes that do nothing but turn in a loop beside them")
    parser.add_argument(
        "--model", choices=MODELS, action="append", help="one of the networks; repeatable; default: all"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads or 1)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.busy)]
    rows = []
    try:
        for name in arguments.model or MODELS:
            count = differing(MODELS[name], num_runs=arguments.runs, num_threads=arguments.workers)
            rows += [Row(name, "trainings in threads", arguments.runs, "trainings")]
            rows += [Row(name, "weights that differ from those trained alone", count, "trainings")]
    finally:
        for process in busy:
            process.kill()
    publish("Do threads change what one seed gives?", rows, arguments.json)
    if any(row.value for row in rows if row.metric.startswith("weights")):
        sys.exit(1)


if __name__ == "__main__":
    main()
