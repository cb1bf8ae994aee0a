"""Weights as 8-bit integers with scales: a quarter of the bytes, made wide again when the model is loaded."""

from __future__ import annotations

import copy
from typing import ClassVar

from scifm.distillation.compression import Compression
from scifm.models.codecs import find_codec
from scifm.models.operator import Operator

__all__ = ["Int8"]


class Int8(Compression):
    """Store weights as `scifm.models.codecs.Int8Codec` does, which says how; arithmetic stays in floats."""

    name: ClassVar[str] = "int8"
    codec: ClassVar[str | None] = "int8"

    def compress(self, operator: Operator) -> Operator:
        smaller = copy.deepcopy(operator)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in operator.state_dict().items()}
        codec = find_codec("int8")
        smaller.load_state_dict(codec.decode(*codec.encode(tensors)))
        return smaller
