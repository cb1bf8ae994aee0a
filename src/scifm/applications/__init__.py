"""Applications: compositions of the rooms below for one use; nobody but the porch imports them."""

from __future__ import annotations

__all__: list[str] = []
