"""What a call of the command line leaves."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Said"]


@dataclass
class Said:
    """What a call left: exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """The one line that names the mistake."""
        lines = [line for line in self.err.splitlines() if line.startswith("scifm:")]
        assert len(lines) == 1, f"one line was expected:\n{self.err}"
        assert "Traceback" not in self.err + self.out
        return lines[0]
