"""The same answers from less: a trained operator made smaller, and by how much its answers changed.

A compression is one configured object, `Compression`, in one file: operator in, operator out, and how that one is
stored. ``COMPRESSIONS`` lists those that `compress` and ``scifm compress`` know; a new one is a file and a line here.
How tensors are written smaller is a codec of `models`, so whoever loads a model needs nothing of this room.

What may not live here: what trains (below), and questions to an operator as it is (`trust`, a sibling; neither knows
the other). A compression without measured errors is not written: `compress` measures before it stores.
"""

from scifm.distillation.compression import Compression
from scifm.distillation.int8 import Int8

COMPRESSIONS: dict[str, type[Compression]] = {"int8": Int8}
"""Every way to make an operator smaller, by name."""

__all__ = ["COMPRESSIONS", "Compression", "Int8"]
