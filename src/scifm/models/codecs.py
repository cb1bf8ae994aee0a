"""Codecs: how the tensors of a model are written smaller, and made again when it is loaded.

A codec knows tensors and their names, and nothing of operators. ``config.json`` says by name which one wrote a model,
with what it needs to read it. ``CODECS`` lists them; another one has a name, `encode`, `decode` and `shapes` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from scifm.errors import DataError, RunError, SignatureError, suggest

__all__ = ["CODECS", "Int8Codec", "find_codec"]

Shapes = Mapping[str, tuple[int, ...]]


class Int8Codec:
    """Every weight with two or more axes as an 8-bit integer times a scale, one scale for each place along one axis.

    w ≈ q·s with q from −127 to 127 and s at least max|w|/127 over all but that axis, so no weight is off by more than
    s/2, and zero stays zero. The axis is the one by which the weight is missed least; the notes name it. A scale
    has 16 significant bits, rounded up: q·s is then exact in 32-bit floats, and what was made again from integers gives
    the same integers. Complex weights are taken as pairs of real ones.

    Stored as they are: biases and constants; what is in half precision already; and the smallest weights, as many as
    together hold a hundredth of all numbers. Those are the lifts and skips that every answer passes: in two FNOs they
    made about as much of the error as all the rest.
    """

    name: ClassVar[str] = "int8"  # its key in ``CODECS``, written into ``config.json``
    suffix: ClassVar[str] = ".scale"
    spared: ClassVar[float] = 0.01

    def encode(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what is stored, and the entry of ``config.json`` without which it cannot be read.

        Raises:
            DataError: if numbers are not finite.
        """
        stored: dict[str, Tensor] = {}
        notes: dict[str, Any] = {}
        sizes = {name: tensor.numel() for name, tensor in tensors.items()}
        room, wide = self.spared * sum(sizes.values()), set[str]()
        for name in sorted(sizes, key=lambda name: (sizes[name], name)):  # the smallest, while their share lasts
            room -= sizes[name]
            if room < 0:
                break
            wide.add(name)
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise DataError(
                    f"The weight '{name}' holds NaN or infinity, which no compression keeps. Train it anew."
                )
            if tensor.dim() < 2 or not tensor.numel() or tensor.dtype not in _WIDE or name in wide:
                stored[name] = tensor
                continue
            real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            axis, stored[name], stored[name + self.suffix] = _quantized(real, range(tensor.dim()))
            notes[name] = {"axis": axis, "dtype": str(tensor.dtype).removeprefix("torch.")}
        return stored, {"name": self.name, "weights": notes}

    def decode(self, stored: Mapping[str, Tensor], notes: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the tensors again, under their names.

        Raises:
            SignatureError: if what is stored does not fit the notes.
        """
        weights = notes["weights"]
        tensors = {}
        for name, tensor in stored.items():
            if name not in weights:
                if name.removesuffix(self.suffix) not in weights:
                    tensors[name] = tensor
                continue
            dtype, scale = _WIDE_BY_NAME[weights[name]["dtype"]], stored[name + self.suffix]
            kinds = tensor.dtype, scale.dtype
            if kinds != (torch.int8, dtype.to_real()) or not (scale.isfinite() & (scale > 0)).all():
                raise SignatureError(f"the weight '{name}' is not stored as 8-bit integers with positive scales")
            real = tensor.to(scale.dtype) * scale
            tensors[name] = torch.view_as_complex(real) if dtype.is_complex else real
        return tensors

    def shapes(self, stored: Shapes, notes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Return the shapes that `decode` gives, from those of what is stored: before a number is read."""
        weights, shapes = notes["weights"], {}
        for name, shape in stored.items():
            if name in weights:
                is_complex = _WIDE_BY_NAME[weights[name]["dtype"]].is_complex
                axis, full = int(weights[name]["axis"]), tuple(shape)
                expected = tuple(n if place == axis else 1 for place, n in enumerate(full))
                if tuple(stored[name + self.suffix]) != expected:
                    raise SignatureError(f"the scales of '{name}' are {stored[name + self.suffix]} and not {expected}")
                shapes[name] = full[:-1] if is_complex else full
            elif name.removesuffix(self.suffix) not in weights:
                shapes[name] = tuple(shape)
        return shapes


_WIDE_BY_NAME = {
    "float32": torch.float32, "float64": torch.float64, "complex64": torch.complex64, "complex128": torch.complex128,
}  # fmt: skip
_WIDE = frozenset(_WIDE_BY_NAME.values())
_SIGNIFICANT = 2.0**16


def _quantized(weight: Tensor, axes: range) -> tuple[int, Tensor, Tensor]:
    """Return an axis, the integers and the scales along it that miss a weight by least in the mean square."""
    candidates = []
    for axis in axes:
        others = [place for place in range(weight.dim()) if place != axis]
        mantissa, exponent = torch.frexp(weight.double().abs().amax(others, keepdim=True) / 127)
        scale = torch.ldexp((mantissa * _SIGNIFICANT).ceil() / _SIGNIFICANT, exponent).to(weight.dtype)
        scale = scale.clamp(min=torch.finfo(weight.dtype).tiny)  # of what is all zero too: any scale will do
        integers = (weight.double() / scale.double()).round()
        missed = float((weight.double() - integers * scale.double()).square().sum())
        candidates.append((missed, axis, integers.to(torch.int8), scale))
    _, axis, integers, scale = min(candidates, key=lambda candidate: candidate[:2])
    return axis, integers, scale


CODECS: dict[str, Int8Codec] = {codec.name: codec for codec in (Int8Codec(),)}


def find_codec(name: str) -> Int8Codec:
    """Return the codec of a name.

    Raises:
        RunError: if there is none.
    """
    if name not in CODECS:
        raise RunError(f"its weights are written by the codec {suggest(name, CODECS)} A newer SciFM may know it.")
    return CODECS[name]
