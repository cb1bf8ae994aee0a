"""Applications: compositions of the rooms below for one use; nobody but the porch imports them."""

from scifm.applications import playground

__all__ = ["playground"]
