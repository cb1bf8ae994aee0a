"""The base of everything that is found: frozen, ready for JSON, open to what later versions add."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from scifm.runs import write_atomically

__all__ = ["Part"]


class Part(BaseModel):
    """A piece of what was found: frozen; keys it does not know are left to later versions.

    A number that could not be computed is None, and one that is not finite becomes None when it is written.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    def write(self, path: Path) -> None:
        """Write it as indented JSON.

        Raises:
            RunError: if the file cannot be written.
        """
        write_atomically(path, (self.model_dump_json(indent=2) + "\n").encode())
