"""Which spectral engine is faster for one Fourier layer, forward and backward, and does the written rule pick it?

For each shape both engines take turns in one process; the rule is ``choose_engine`` in ``scifm.models.parts.spectral``.
With ``SCIFM_NATIVE=0`` in the environment both go through torch. "loss by the rule" is the time of the engine the
rule picks over that of the faster one: 1 when it is right.
"""

from __future__ import annotations

import torch

from harness import Row, alternate, argument_parser, medians, publish
from scifm.models.parts.native import native_for
from scifm.models.parts.spectral import FourierLayer, choose_engine

SHAPES = [  # grid, modes, width, batch
    ((24, 24), (12, 12), 32, 32),
    ((64, 64), (12, 12), 32, 16),
    ((64, 64), (16, 16), 32, 16),
    ((64, 64), (32, 32), 32, 16),
    ((128, 128), (16, 16), 32, 8),
    ((128, 128), (32, 32), 32, 4),
    ((128, 128), (64, 64), 16, 4),
    ((256, 256), (12, 12), 32, 2),
    ((256, 256), (64, 64), 16, 1),
    ((256, 256), (128, 128), 16, 1),
    ((1024,), (64,), 64, 32),
    ((4096,), (256,), 32, 8),
    ((4096,), (1024,), 32, 8),
    ((16384,), (2048,), 16, 4),
    ((32, 32, 32), (8, 8, 8), 16, 2),
]


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    for space, modes, width, batch in SHAPES:
        layer = FourierLayer(width, width, modes)
        x = torch.randn(*space, batch, width, requires_grad=True)

        def step(engine: str, layer: FourierLayer = layer, x: torch.Tensor = x) -> None:
            layer.engine = engine  # type: ignore[assignment]
            layer(x).square().mean().backward()

        contestants = {engine: lambda engine=engine, step=step: step(engine) for engine in ("gemm", "fft")}
        seconds = medians(alternate(contestants, repeats=7, warmups=2))
        chosen = choose_engine(space, modes, folded=native_for(x) is not None)
        case = f"{'x'.join(map(str, space))}, {modes[0]} modes, width {width}, batch {batch}"
        rows += [Row(case, engine, 1e3 * value, "ms") for engine, value in seconds.items()]
        rows.append(Row(case, f"loss by the rule ({chosen})", seconds[chosen] / min(seconds.values()), "ratio"))
    publish("Two engines of the Fourier layer, forward and backward", rows, arguments.json)


if __name__ == "__main__":
    main()
