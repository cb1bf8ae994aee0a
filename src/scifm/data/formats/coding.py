"""How numbers are written in an array: packed how, and which of them stand for none. One rule for all formats.

What is told in attributes (NetCDF's user guide, appendix A, and the climate and forecast conventions, section 2.5)
    ``scale_factor``, ``add_offset``    number = written × scale_factor + add_offset
    ``_Unsigned``                       integers that are written as if they had a sign, or had none; bounds that only
                                        numbers without a sign can reach, such as 0 and 255 of a byte, say so too
    ``_FillValue``, ``missing_value``   these stand for none, as they are written
    ``valid_min``, ``valid_max``, ``valid_range``   what lies outside stands for none: as written, or, where the bounds
                                        are floating and what is written is not, as unpacked

What a format puts where nothing was written stands for none too: NetCDF has such a number for every type of more than
one byte, in HDF5 and Zarr 2 it is declared by array. Zero is not such a mark, unless numbers are packed: it is what
Zarr and HDF5 declare where nobody chose. In Zarr 3 the declared one is a legal way to write a constant.

What stands for none is read as NaN, and NaN is refused where it would become a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scifm.errors import DataError

__all__ = ["Coding", "netcdf_fill", "text_of"]

_NETCDF_FLOAT = 9.969209968386869e36
_WHOLE = 2**53  # up to which float64 holds every whole number


def netcdf_fill(dtype: np.dtype) -> float | int | None:
    """Return what NetCDF puts where a number of this type was never written; None where it has nothing to spare."""
    if dtype.kind == "f" and dtype.itemsize > 2:
        return _NETCDF_FLOAT
    if dtype.kind in "iu" and dtype.itemsize > 1:
        limits = np.iinfo(dtype)
        if dtype.kind == "u":
            return int(limits.max) - (1 if dtype.itemsize == 8 else 0)
        return int(limits.min) + (2 if dtype.itemsize == 8 else 1)
    return None


@dataclass(frozen=True)
class Coding:
    """How the numbers of one array are written; `of` reads it from attributes.

    Args:
        written: type they are written in, after ``_Unsigned``.
        missing: written numbers that stand for none.
        written_range: smallest and largest written number that stands for one.
        range: the same for unpacked numbers.
        scale: factor of unpacking.
        offset: added then.
    """

    written: np.dtype
    missing: tuple[float | int, ...] = ()
    written_range: tuple[float, float] = (-np.inf, np.inf)
    range: tuple[float, float] = (-np.inf, np.inf)
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(
        cls,
        dtype: np.dtype,
        attributes: Mapping[str, Any],
        *,
        declared: float | int | None = None,
        default: float | int | None = None,
    ) -> Coding:
        """Return the coding of an array.

        Args:
            dtype, attributes: of the array, as it lies in the file.
            declared: what the array itself declares to be read where nothing was written.
            default: what the format puts there if the array declares nothing that could be such a mark.

        Raises:
            DataError: if ``scale_factor`` or ``add_offset`` is no number, so that nobody knows what is meant.
        """
        written = _signed(dtype, attributes)
        scale, offset = (_factor(attributes, *setting) for setting in (("scale_factor", 1.0), ("add_offset", 0.0)))
        packed = (scale, offset) != (1.0, 0.0)
        marks = [value for key in ("_FillValue", "missing_value") for value in _marks(attributes.get(key), written)]
        if "_FillValue" not in attributes:
            marks += _numbers(declared if declared is not None and (packed or declared != 0) else default)
        missing = {value for given in marks for value in _as_written(given, dtype, written)}
        if written.kind not in "fiu":
            return cls(written)
        bounds, floating = _bounds(attributes)
        whose = "range" if floating and written.kind != "f" else "written_range"
        return cls(written, tuple(sorted(missing)), scale=scale, offset=offset, **{whose: bounds})

    @property
    def is_plain(self) -> bool:
        """Whether numbers are what is written, all of them."""
        return self == Coding(self.written)

    @property
    def is_packed(self) -> bool:
        """Whether numbers are others than those that are written."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers that `decode` returns: float64 where something was written otherwise than it is meant."""
        plain = self.is_plain or (self.written.kind == "f" and not self.is_packed)
        return self.written.newbyteorder("=") if plain else np.dtype(np.float64)

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Return the numbers that are meant by what is written, NaN where that is none.

        Whole numbers that float64 cannot hold, such as nanoseconds since 1970, stay whole where none is missing.
        """
        written = np.asarray(values)
        if written.dtype.kind in "iu":
            written = written.view(self.written.newbyteorder(written.dtype.byteorder))
        if self.is_plain:
            return written
        absent = _outside(written, self.written_range)
        for value in self.missing:
            absent |= written == self.written.type(value)
        if written.dtype.kind in "iu" and not self.is_packed and not absent.any() and _beyond_float64(written):
            return written
        numbers = written.astype(self.dtype)
        if self.scale != 1.0:
            numbers *= self.scale
        if self.offset != 0.0:
            numbers += self.offset
        numbers[absent | _outside(numbers, self.range)] = np.nan
        return numbers


def _signed(dtype: np.dtype, attributes: Mapping[str, Any]) -> np.dtype:
    """Return the type that is meant: as ``_Unsigned`` says, or, where nothing does, valid bounds that only fit one."""
    word = text_of(attributes.get("_Unsigned")).lower()
    if word not in ("true", "false") and dtype.kind == "i":
        (least, most), _ = _bounds(attributes)
        limits = np.iinfo(dtype)
        word = "true" if least >= 0 and limits.max < most <= 2 * limits.max + 1 else ""
    if word in ("true", "false") and dtype.kind in "iu":
        return np.dtype(f"{'u' if word == 'true' else 'i'}{dtype.itemsize}").newbyteorder(dtype.byteorder)
    return dtype


def _beyond_float64(whole: np.ndarray) -> bool:
    """Return whether some of these whole numbers are more than float64 tells apart."""
    return whole.dtype.itemsize == 8 and bool(((whole > _WHOLE) | (whole < -_WHOLE)).any())


def _is_nothing(value: Any) -> bool:
    """Return whether an attribute is not there, or is HDF5's empty one, which h5py gives without a shape."""
    return value is None or getattr(value, "shape", ()) is None


def text_of(value: Any) -> str:
    """Return an attribute as a text, however a file holds it; the first entry of many, nothing for nothing."""
    entries = [] if _is_nothing(value) else np.asarray(value).ravel().tolist()
    first = entries[0] if entries else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _numbers(value: Any) -> list[float | int]:
    """Return the numbers an attribute tells; one that is a text of a number is one too, other texts tell none."""
    if _is_nothing(value):
        return []
    array = np.asarray(value)
    if array.dtype.kind in "fiub":
        numbers: list[float | int] = array.ravel().tolist()
        return numbers
    try:
        return [float(text_of(value))]
    except ValueError:
        return []


def _marks(value: Any, written: np.dtype) -> list[float | int]:
    """Return the numbers that an attribute marks as none; of float32 beside float64 also those that were rounded.

    −999.9 is another number in float32, and who wrote it into both types meant one.
    """
    marks = _numbers(value)
    told = np.dtype(getattr(value, "dtype", written))
    if not marks or told.kind != "f" or written.kind != "f" or told.itemsize >= written.itemsize:
        return marks
    return marks + [float(str(number)) for number in np.ravel(value)]


def _factor(attributes: Mapping[str, Any], key: str, otherwise: float) -> float:
    if key not in attributes:
        return otherwise
    numbers = _numbers(attributes[key])
    if len(numbers) != 1 or not np.isfinite(numbers[0]):
        raise DataError(
            f"The attribute {key} is {attributes[key]!r}, not one finite number, so what the numbers of that array "
            "mean is not known. Mend the attribute, or write the numbers unpacked."
        )
    return float(numbers[0])


def _as_written(value: float | int, dtype: np.dtype, written: np.dtype) -> list[float | int]:
    """Return a number as an array of this type would hold it; none where it cannot, or is NaN anyway."""
    if value != value or written.kind not in "fiu":
        return []
    if written.kind == "f":
        with np.errstate(over="ignore"):
            return [float(written.type(value))]
    if value != int(value) if np.isfinite(value) else True:
        return []
    for kind in {dtype, written}:
        limits = np.iinfo(kind)
        if limits.min <= value <= limits.max:
            bits = np.array([int(value)], dtype=kind.newbyteorder("=")).view(written.newbyteorder("="))
            return [int(bits[0])]
    return []


def _bounds(attributes: Mapping[str, Any]) -> tuple[tuple[float, float], bool]:
    """Return the smallest and largest valid number, and whether they are told as floating numbers."""
    least, most, both = (_numbers(attributes.get(key)) for key in ("valid_min", "valid_max", "valid_range"))
    low, high = both if len(both) == 2 else (-np.inf, np.inf)
    if len(least) == 1:
        low = max(low, least[0])
    if len(most) == 1:
        high = min(high, most[0])
    return (float(low), float(high)), any(isinstance(value, float) for value in (*least, *most, *both))


def _outside(numbers: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return (numbers < bounds[0]) | (numbers > bounds[1])
