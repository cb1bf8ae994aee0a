"""The base of everything that is found: frozen, ready for JSON, open to what later versions add."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Part"]


class Part(BaseModel):
    """A piece of what was found: frozen; keys it does not know are left to later versions.

    A number that could not be computed is None, and one that is not finite becomes None when it is written.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")
