"""The base of everything that is found: frozen, ready for JSON, open to what later versions add."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from scifm.runs import write_atomically

__all__ = ["Number", "Part"]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


Number = Annotated[float | None, AfterValidator(_finite)]
"""A number that may be missing: one that could not be computed, NaN or infinite, is None."""


class Part(BaseModel):
    """A piece of what was found: frozen; keys it does not know are left to later versions."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    def write(self, path: Path) -> None:
        """Write it as indented JSON.

        Raises:
            RunError: if the file cannot be written.
        """
        write_atomically(path, (self.model_dump_json(indent=2) + "\n").encode())
