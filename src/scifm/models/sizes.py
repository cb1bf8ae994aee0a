"""One dial of size; the rest is derived.

Width grows with the dial. The spectral weights dominate: about ``4·(2·modes)·modes·width²·2`` numbers in two
dimensions, so a step of √2 in width doubles the model. Modes follow the smoothness of the data, not the size of the
model, and stay at 12; measured on Poisson at 64², modes beyond 12 hold 5·10⁻⁴ of the solution's norm.
"""

from __future__ import annotations

__all__ = ["SIZES"]

SIZES: dict[str, int] = {"tiny": 12, "small": 32, "base": 48, "large": 64, "huge": 128}
"""Width by name; `OperatorConfig.of_size` derives the rest of an architecture from it."""
