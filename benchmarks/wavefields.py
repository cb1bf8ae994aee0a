"""Forecasts of wavefields from their first frames: convolutional recurrent networks beside a U-Net and an FNO.

Acoustic waves from three pulses in a random medium with open ends, 64 × 64 points. Only the pressure is seen: neither
the medium nor the sources nor the velocity is told. Every network is given 8 frames, is trained for the same time (of
the processor, one thread) on the same windows, and forecasts 24 frames from the beginning of waves it has not seen.

``python benchmarks/wavefields.py --seconds 120 --seeds 3 --docs docs/guides/early-warning.md``
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import argument_parser, put_into, write_measured
from scifm.data.normalize import fit_normalization
from scifm.data.split import StoreSplit, windows_of
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.models.conv_recurrent import ConvRecurrentConfig
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.rollout import rollout
from scifm.models.unet import UNetConfig
from scifm.objectives.supervised import RelativeL2
from scifm.systems.acoustic import Acoustic
from scifm.training.pretrain import build_operator

RESULTS = Path(__file__).parent / "results" / "wavefields.csv"
HISTORY, AHEAD, WIDTH, POINTS = 8, 24, 16, 64
SYSTEM = Acoustic(absorbing_layer=0.15, save_interval=0.04, num_frames=HISTORY + AHEAD)
PRESSURE = Signature(("pressure",), (), ("pressure",), 2, evolves=True)
LEADS = (1, 4, 8, 16, 24)


def networks(width: int) -> dict[str, tuple[OperatorConfig, int]]:
    """Return settings by name, and over how many frames each is trained to march."""
    recurrent = {cell: ConvRecurrentConfig(cell=cell, width=width) for cell in ("lem", "lstm", "gru")}
    named: dict[str, tuple[OperatorConfig, int]] = {f"Conv{c.upper()}": (own, HISTORY) for c, own in recurrent.items()}
    unet, fno = UNetConfig(width=width, levels=3, projection_width=width), FNOConfig(width=width, modes=12)
    return {**named, "U-Net": (unet, 1), "U-Net, 4 steps": (unet, 4), "FNO": (fno, 1), "FNO, 4 steps": (fno, 4)}


def waves(count: int, seed: int) -> Batch:
    """Return trajectories of the pressure alone."""
    drawn = SYSTEM.sample(count, Grid((POINTS, POINTS)), generator=generator_for(seed, "wavefields"))
    return drawn.without_absent(PRESSURE)


def trained(
    config: OperatorConfig, samples: StoreSplit, seconds: float, seed: int, batch_size: int
) -> tuple[Operator, int]:
    """Return an operator that was trained for a time, and the steps that it took.

    The learning rate falls with the time that is spent, along a cosine, as it does by steps elsewhere.
    """
    fitting = samples.some(256)
    config = config.on(samples.grid, history=HISTORY)
    operator = build_operator(PRESSURE, config, fit_normalization(fitting), seed=seed).train()
    objective, generator = RelativeL2().on(fitting), generator_for(seed, "wavefields", "order")
    optimizer = torch.optim.AdamW(operator.parameters(), lr=1e-3, weight_decay=1e-4)
    begin, steps = time.process_time(), 0
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: share(begin, seconds))
    while time.process_time() - begin < seconds:
        index = torch.randint(samples.num_samples, (batch_size,), generator=generator)
        loss = objective(operator, samples.batch(index), step=steps, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(operator.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        steps += 1
    return operator.eval(), steps


def share(begin: float, seconds: float) -> float:
    """Return which part of the learning rate is left."""
    spent = min((time.process_time() - begin) / seconds, 1.0)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent))


def told(answers: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """Return correlation and relative error of each frame, means over samples ``(sample, time, channel, *space)``."""
    said, true = answers.flatten(2).double(), truth.flatten(2).double()
    sizes = true.norm(dim=2).clamp(min=1e-30)
    correlation = (said * true).sum(2) / (said.norm(dim=2).clamp(min=1e-30) * sizes)
    return {
        "correlation": correlation.mean(0).tolist(),
        "relative_l2": ((said - true).norm(dim=2) / sizes).mean(0).tolist(),
    }


def measured(operator: Operator | None, start: Batch, truth: Tensor) -> dict[str, list[float]]:
    """Return how well forecasts are by lead time; None: of the answer that nothing changes."""
    if operator is None:
        return told(start.inputs[:, -1:].expand_as(truth), truth)
    frames = [frame.require_targets() for frame in rollout(operator, start, AHEAD, bound=1e6)]
    return told(torch.cat(frames, dim=1), truth[:, : len(frames)])


def rows_of(name: str, seed: int, found: Mapping[str, Sequence[float]], **about: Any) -> list[dict[str, Any]]:
    """Return a row a lead time."""
    leads = [lead for lead in LEADS if lead <= len(found["correlation"])]
    return [
        {
            "network": name,
            "seed": seed,
            **about,
            "lead": lead,
            **{metric: own[lead - 1] for metric, own in found.items()},
        }
        for lead in leads
    ]


def run(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and score all."""
    training, test = waves(asked.num_waves, 0), waves(64, 1)
    whole = windows_of(test, Window(HISTORY, AHEAD)).load()
    start, truth = replace(whole, targets=None, lead_time=whole.lead_time[:, :1]), whole.require_targets()  # type: ignore[index]
    rows = rows_of("nothing changes", 0, measured(None, start, truth), weights=0, steps=0)
    for seed in range(asked.seeds):
        for name, (config, horizon) in networks(asked.width).items():
            if asked.only and name not in asked.only:
                continue
            operator, steps = trained(
                config, windows_of(training, Window(HISTORY, horizon)), asked.seconds, seed, asked.batch
            )
            rows += rows_of(name, seed, measured(operator, start, truth), weights=operator.num_params, steps=steps)
            last = {row["lead"]: f"{row['correlation']:.3f} {row['relative_l2']:.3f}" for row in rows[-len(LEADS) :]}
            print(f"seed {seed}, {name}: {steps} steps, {operator.num_params} weights; {last}", flush=True)
            write_measured(asked.out, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return means over seeds as Markdown, and the range of seeds at the last lead time."""
    names = list(dict.fromkeys(row["network"] for row in rows))
    head = "| network | weights | " + " | ".join(f"frame {lead}" for lead in LEADS) + " |"
    lines = [head, "|---" * (len(LEADS) + 2) + "|"]
    for name in names:
        own = [row for row in rows if row["network"] == name]
        cells = []
        for lead in LEADS:
            here = [row for row in own if row["lead"] == lead]
            both = [sum(row[metric] for row in here) / len(here) for metric in ("correlation", "relative_l2")]
            cells.append(f"{both[0]:.2f} / {both[1]:.2f}")
        lines.append(f"| {name} | {own[0]['weights']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("Forecasts of wavefields from their first frames")
    parser.add_argument("--seconds", type=float, required=True, help="of the processor, for each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--num-waves", type=int, default=400, dest="num_waves")
    parser.add_argument("--only", nargs="*", help="names of networks")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="the page to put the table into")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads or 1)
    rows = run(asked)
    if asked.docs is not None:
        put_into(asked.docs, "wavefields", table(rows))


if __name__ == "__main__":
    main()
