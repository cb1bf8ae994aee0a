"""What one training step and one answer cost, beside neuraloperator and the textbook layer.

All contestants take turns in one process; medians. "ours" is the network with the same layers as the others' (full
grid, projection to 128); "ours, latent grid" is what the library uses by default: hidden layers on 2 points a mode, the
same modes and width. A step is forward, backward and Adam on random fields; inference is one forward pass.

neuraloperator is asked for the same layers (linear skips, no channel MLP, no positional embedding), and also taken with
its defaults. It is not among our dependencies: ``pip install neuraloperator==2.0.0``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness import Row, alternate, argument_parser, medians, publish
from scifm.fields.batch import Signature
from scifm.models.fno import FNO, FNOConfig
from textbook import TextbookFNO

try:
    from neuralop.models import FNO as NeuralopFNO  # noqa: N811 - a class, whatever its case
except ImportError:
    NeuralopFNO = None

CASES = [  # grid, modes, width, batch
    ((64, 64), 16, 32, 16),
    ((128, 128), 16, 32, 8),
    ((128, 128), 32, 64, 4),
    ((256, 256), 12, 32, 2),
    ((1024,), 64, 64, 32),
    ((32, 32, 32), 8, 32, 4),
]
COEFFICIENTS = ("a", "b", "c")


class _Ours(nn.Module):
    """Our operator's network alone, on the same tensor as the others' networks."""

    def __init__(self, space: tuple[int, ...], **settings: Any) -> None:
        super().__init__()
        signature = Signature(("forcing",), COEFFICIENTS, ("solution",), len(space))
        self.operator = FNO(signature, FNOConfig(num_layers=4, projection_width=128, **settings))

    def forward(self, x: Tensor) -> Tensor:
        constants = x[(slice(None), slice(1, None), *(0,) * (x.dim() - 2))]
        return self.operator.network(x[:, None, :1], constants)[:, 0]


def contestants(space: tuple[int, ...], modes: int, width: int) -> dict[str, nn.Module]:
    """Return the networks to compare."""
    ours = {"width": width, "modes": modes}
    found: dict[str, nn.Module] = {
        "ours": _Ours(space, latent_points=0, residual=False, engine="gemm", **ours),
        "ours, fft engine": _Ours(space, latent_points=0, residual=False, engine="fft", **ours),
        "ours, latent grid": _Ours(space, latent_points=2 * modes, engine="gemm", **ours),
        "textbook": TextbookFNO(1 + len(COEFFICIENTS), width=width, modes=modes, num_spatial_dims=len(space)),
    }
    if NeuralopFNO is not None:
        shared = {"n_modes": (2 * modes,) * len(space), "in_channels": 4, "out_channels": 1, "hidden_channels": width}
        found["neuraloperator, defaults"] = NeuralopFNO(**shared)
        found["neuraloperator"] = NeuralopFNO(
            **shared,
            n_layers=4,
            use_channel_mlp=False,
            fno_skip="linear",
            positional_embedding=None,
            lifting_channel_ratio=1,
            projection_channel_ratio=128 // width,
        )
    return found


def step_of(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that takes one training step."""
    optimizer = torch.optim.Adam(network.parameters(), fused=not any(p.is_complex() for p in network.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()

    return step


def answer_of(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that answers once."""

    @torch.inference_mode()
    def answer() -> None:
        network(x)

    return answer


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="which rows, from 0")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    for space, modes, width, batch in (CASES[index] for index in arguments.cases):
        x = torch.randn(batch, 1 + len(COEFFICIENTS), *space)
        networks = contestants(space, modes, width)
        case = f"{'x'.join(map(str, space))}, {modes} modes, width {width}, batch {batch}"
        for what, prepare in (("step", step_of), ("inference", answer_of)):
            prepared = {name: prepare(network, x) for name, network in networks.items()}
            times = medians(alternate(prepared, repeats=arguments.repeats, warmups=2))
            rows += [Row(case, f"{what}: {name}", 1e3 * seconds, "ms") for name, seconds in times.items()]
            for other in ("neuraloperator", "textbook"):
                for mine in ("ours", "ours, latent grid"):
                    if other in times:
                        rows.append(Row(case, f"{what}: {other} over {mine}", times[other] / times[mine], "ratio"))
    publish("One step and one answer of a Fourier neural operator", rows, arguments.json)


if __name__ == "__main__":
    main()
