"""What files and groups hold becomes the contents of a file or folder: splits, variables, parts in time, trajectories.

What belongs together is told by names and numbers, never by position alone: files are in natural order (2 before 10),
and files of different variables are paired by that in which the names of each differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from scifm.data.formats.format import Clipped, Concatenated, Contents, LazyArray, Repeated
from scifm.data.formats.kinds import group_by_split, natural
from scifm.data.formats.mapping import SPACE
from scifm.data.formats.pieces import Piece, by_group, join_arrays, require_same, shared_out
from scifm.data.formats.proposal import guess_axes
from scifm.errors import DataError, StoreError
from scifm.fields.axis_names import axis_of_name

__all__ = ["join_pieces"]

_GAP = 1.5  # times the longest interval in a piece, up to which the next one follows it
_SAME = 1e-6  # of an interval
_NEW = -1  # in place of an axis: there is none yet
_MOST_ALIKE = 3  # remarks that differ in their numbers alone, each of which is told


def join_pieces(
    path: Path, files: Sequence[Path], pieces: Sequence[Piece], *, close: Callable[[], None], by_schema: bool = False
) -> Contents:
    """Return the contents of a file or folder from what each of its files holds.

    Args:
        path: what was opened.
        files: the data sets it was found in, in natural order.
        pieces: one a file.
        close: closes what is open.
        by_schema: whether the names of groups are fixed: then none is a simulation, and no array a mesh.

    Raises:
        DataError: if they do not belong together; says which two, and what differs.
    """
    inner = pieces if by_schema else [own.with_lines_of_meshes() for piece in pieces for own in by_group(piece)]
    by_place = {piece.place: piece for piece in inner}
    groups = group_by_split(path, list(by_place))
    parts = {part: _by_variable([by_place[place] for place in places]) for part, places in groups.items()}
    parts = {part: _joined_in_time([piece.with_axes_of_meshes() for piece in own]) for part, own in parts.items()}
    every = [piece for own in parts.values() for piece in own]
    lines = set(every[0].coordinates.values())
    require_same([piece for piece in every if lines <= piece.arrays.keys()], sorted(lines))  # also between splits
    everywhere = [name for name in every[0].numbers if all(name in piece.numbers for piece in every)]
    alike = {n: every[0].numbers[n] for n in everywhere if len({piece.numbers[n] for piece in every}) == 1}
    if max(map(len, parts.values())) > 1:
        varying = [name for name in everywhere if name not in alike]
        joined = {part: _as_trajectories(own, varying) for part, own in parts.items()}
    else:
        joined = {part: own[0] for part, own in parts.items()}
    first_part, first = next(iter(joined.items()))
    said = {name: {piece.units[name] for piece in every if name in piece.units} for name in first.units}
    texts = {
        name: {key: text for key, text in own.items() if all(text == p.texts.get(name, {}).get(key) for p in every)}
        for name, own in first.texts.items()
    }
    unlike = [f"{name} ({', '.join(sorted(own))})" for name, own in said.items() if len(own) > 1]
    if unlike:
        first.remarks.append(f"Units differ between files, numbers are taken as they are: {'; '.join(unlike)}.")
    if not first.content:
        bare = f"'{path}' holds no arrays of numbers, but for coordinates and single numbers."
        raise StoreError(" ".join([bare, *first.remarks]))
    for part, piece in joined.items():
        odd = sorted(first.arrays.keys() ^ piece.arrays.keys())
        if odd:
            raise DataError(
                f"'{odd[0]}' of '{path}' is not in both {first_part} and {part}. All splits need the same arrays."
            )
    return Contents(
        path,
        tuple(files),
        {part: piece.arrays for part, piece in joined.items()},
        alike,
        axes={name: axes for name, axes in first.axes.items() if name in first.arrays},
        coordinates=first.coordinates,
        boundary=first.boundary,
        texts={name: own for name, own in texts.items() if own},
        dates={name: own for name, own in first.dates.items() if all(piece.dates.get(name) == own for piece in every)},
        units={name: own.pop() for name, own in said.items() if len(own) == 1},
        remarks=_few([remark for piece in (*inner, *joined.values()) for remark in piece.remarks]),
        close=close,
    )


def _few(remarks: Sequence[str]) -> tuple[str, ...]:
    """Return each remark once; of many that differ in their numbers alone the first, and how many are like it."""
    alike: dict[str, list[str]] = {}
    for remark in dict.fromkeys(remarks):
        alike.setdefault(re.sub(r"\d+", "0", remark), []).append(remark)
    return tuple(
        told
        for same in alike.values()
        for told in (same if len(same) <= _MOST_ALIKE else [f"{same[0]} {len(same) - 1} others are like it."])
    )


def _first_to_last(pieces: Sequence[Piece]) -> str:
    """Return from which piece to which these go, in words."""
    first, last = ("/".join(piece.place.parts[-2:]) for piece in (pieces[0], pieces[-1]))
    return f"from '{first}' to '{last}'"


# --- one variable a file ----------------------------------------------------------------------------------------------


def _by_variable(pieces: Sequence[Piece]) -> list[Piece]:
    """Return pieces with all arrays each, where every file holds one variable or the coordinates alone."""
    kinds: dict[frozenset[str], list[Piece]] = {}
    for piece in pieces:
        kinds.setdefault(piece.content, []).append(piece)
    if len(kinds) == 1 or sum(map(len, kinds)) != len(frozenset().union(*kinds)):
        return list(pieces)  # alike, or unlike in a way that joining will tell
    series = {content: own for content, own in kinds.items() if len(own) > 1 and content}
    alone = [piece for content, own in kinds.items() if content not in series for piece in own]
    if not series:
        return [_merged(alone)]
    merged = [_merged(row) for row in _paired(list(series.values()))]
    shares = [shared_out(piece, len(merged)) for piece in alone]
    return [_merged([own, *row]) for own, *row in zip(merged, *shares, strict=True)]


def _paired(series: Sequence[Sequence[Piece]]) -> list[list[Piece]]:
    """Return the pieces of one variable with those of the others that have the same number."""
    if len(series) == 1:
        return [[piece] for piece in series[0]]
    keyed = [_keys(own) for own in series]
    for own in keyed[1:]:
        odd = next(iter(own.keys() ^ keyed[0].keys()), None)
        if odd is not None:
            lone = (keyed[0] | own)[odd]
            names = [", ".join(sorted(next(iter(each.values())).content)) for each in (keyed[0], own)]
            raise DataError(
                f"'{lone.place}' has no partner: files of {names[0]} and of {names[1]} belong together by the number "
                "in their names, and each number has to be there for both. Add the file, or move away what does not "
                "belong."
            )
    return [[own[key] for own in keyed] for key in keyed[0]]


def _keys(pieces: Sequence[Piece]) -> dict[tuple[tuple[int, int, str], ...], Piece]:
    """Return pieces by that in which their names differ: the numbers of ``u_1``, ``u_02``, ``u_10``."""
    names = [str(piece.place.with_suffix("")) for piece in pieces]
    before = re.sub(r"\d+$", "", _common_start(names))
    after = re.sub(r"^\d+", "", _common_start([name[::-1] for name in names])[::-1])
    differ = [name[len(before) : max(len(before), len(name) - len(after))] for name in names]
    keys = [tuple((kind, number, "" if kind == 0 else text) for kind, number, text in natural(own)) for own in differ]
    keyed = dict(zip(keys, pieces, strict=True))
    if len(keyed) != len(pieces):
        twice = next(place for place, key in enumerate(keys) if keys.index(key) != place)
        raise DataError(
            f"'{pieces[keys.index(keys[twice])].place}' and '{pieces[twice].place}' have the same number. Give each "
            "file a number of its own, so that files of different variables can be paired."
        )
    return keyed


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _merged(pieces: Sequence[Piece]) -> Piece:
    """Return one piece with the arrays of several, which are of one problem."""
    first = pieces[0]
    for piece in pieces[1:]:
        require_same([first, piece], set(first.coordinates.values()) & set(piece.coordinates.values()))
        first |= piece
    return first


# --- parts in time, such as the years of a record ---------------------------------------------------------------------


def _joined_in_time(pieces: Sequence[Piece]) -> list[Piece]:
    """Return one piece for each trajectory: those whose times follow each other are joined.

    A piece follows another where it begins at most one and a half intervals after its end. Where every piece is one
    frame, frames follow each other as long as their times increase.
    """
    timed = [_with_own_time(piece) for piece in pieces]
    if len(timed) == 1 or any("time" not in piece.coordinates for piece in timed):
        return list(pieces)
    chains = _chains(timed)
    ordered = _chains(sorted(timed, key=lambda piece: float(piece.times[0]) if piece.times.size else np.inf))
    if len(ordered) == 1:  # such as months called by their names
        chains = ordered
    longest = max(map(len, chains))
    if longest == 1:
        return list(pieces)
    single = all(piece.times.size == 1 for piece in timed)
    if single and {len(chain) for chain in chains} != {longest}:
        return list(pieces)  # numbers that go up and down are no times of one trajectory
    joined = [_joined(chain) for chain in chains]
    counts = {piece.times.size: piece for piece in joined}
    if len(counts) > 1:
        (few, short), (most, long) = min(counts.items()), max(counts.items())
        raise DataError(
            f"Pieces in time make a trajectory of {few} frames that begins with '{short.place}' and one of {most} that "
            f"begins with '{long.place}'. Trajectories need the same times: import each from a folder of its own, or "
            "add what is missing between them."
        )
    return joined


def _with_own_time(piece: Piece) -> Piece:
    """Return a piece with its times in memory, also where the only one is told as a number."""
    if "time" in piece.coordinates:  # read once, and here
        return replace(piece, arrays={**piece.arrays, piece.coordinates["time"]: piece.times - piece.origin})
    name = next((name for name in piece.numbers if axis_of_name(name) == "time"), None)
    if name is None:
        return piece
    return replace(
        piece,
        arrays={**piece.arrays, name: np.array([piece.numbers[name]])},
        coordinates={**piece.coordinates, "time": name},
        numbers={other: value for other, value in piece.numbers.items() if other != name},
    )


def _chains(pieces: Sequence[Piece]) -> list[list[Piece]]:
    chains: list[list[Piece]] = []
    for piece in pieces:
        if chains and _follows(chains[-1][-1].times, piece.times):
            chains[-1].append(piece)
        else:
            chains.append([piece])
    return chains


def _follows(before: np.ndarray, after: np.ndarray) -> bool:
    if not before.size or not after.size:
        return False
    gap, steps = after[0] - before[-1], np.abs(np.concatenate([np.diff(before), np.diff(after)]))
    if not steps.size:
        return bool(gap > 0)
    return bool(-_SAME * steps.max() <= gap <= _GAP * steps.max())


def _joined(chain: Sequence[Piece]) -> Piece:
    """Return the pieces of one trajectory as one."""
    if len(chain) == 1:
        return chain[0]
    first, name, lines = chain[0], chain[0].coordinates["time"], [piece.times for piece in chain]
    steps = [np.abs(np.diff(line)).max(initial=0.0) for line in lines]
    again = [False, *(a[-1] >= b[0] - _SAME * step for (a, b), step in zip(pairwise(lines), steps, strict=False))]
    times = np.concatenate([line[int(twice) :] for line, twice in zip(lines, again, strict=True)])
    along = {other: _time_axis(other, chain, lines) for other in first.arrays if other != name}
    constant = [other for other, axis in along.items() if axis is None]
    require_same(chain, constant)
    arrays = {other: first.arrays[other] for other in constant}
    axes = {other: own for other, own in first.axes.items() if other != name}
    for other, axis in along.items():
        if axis is None:
            continue
        parts = [_frames(piece.arrays[other], axis, twice) for piece, twice in zip(chain, again, strict=True)]
        _require_alike(other, chain, parts, max(axis, 0))
        arrays[other] = Concatenated(parts, max(axis, 0))
        if axis == _NEW and other in axes:
            axes[other] = ("time", *axes[other])
    differing = sorted(n for n in first.numbers if any(piece.numbers.get(n) != first.numbers[n] for piece in chain))
    remarks = [f"{len(chain)} pieces that follow each other in time, {_first_to_last(chain)}, are one trajectory."]
    if any(again):
        remarks.append("Frames told twice, at the end of a piece and at the beginning of the next, are read once.")
    if differing:
        remarks.append(f"Left out, because they differ between the pieces of a trajectory: {', '.join(differing)}.")
    return replace(
        first,
        arrays={**arrays, name: times - first.origin},
        axes=axes,
        numbers={n: value for n, value in first.numbers.items() if n not in differing},
        remarks=[*first.remarks, *remarks],
    )


def _time_axis(name: str, chain: Sequence[Piece], lines: Sequence[np.ndarray]) -> int | None:
    """Return which axis of an array is time; `_NEW` where every piece is one frame, None where it does not change."""
    first = chain[0]
    if name in first.coordinates.values() or not all(name in piece.arrays for piece in chain):
        return None
    named = any("time" in axes for axes in first.axes.values())
    new = None if named or any(line.size > 1 for line in lines) else _NEW
    if name in first.axes:
        return first.axes[name].index("time") if "time" in first.axes[name] else new
    counts, shapes = [line.size for line in lines], [tuple(piece.arrays[name].shape) for piece in chain]
    fitting = [axis for axis in range(min(map(len, shapes))) if [shape[axis] for shape in shapes] == counts]
    if len(fitting) > 1:
        raise DataError(
            f"'{first.place}' and others follow each other in time, and which axis of '{name}', of shape {shapes[0]}, "
            "is time cannot be told: several have as many entries as there are times. Join the files first."
        )
    return fitting[0] if fitting else new


def _frames(array: LazyArray, axis: int, twice: bool) -> LazyArray:
    """Return the frames of a piece, without the first where it was told before."""
    if axis == _NEW:
        return Repeated(array, 0, 1)
    return Clipped(array, axis, 1, int(array.shape[axis]) - 1) if twice else array


def _require_alike(name: str, chain: Sequence[Piece], parts: Sequence[LazyArray], axis: int) -> None:
    shapes = [(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts]
    odd = next((place for place, shape in enumerate(shapes) if shape != shapes[0]), None)
    if odd is not None:
        raise DataError(
            f"'{name}' has shape {tuple(parts[0].shape)} in '{chain[0].place}' and {tuple(parts[odd].shape)} in "
            f"'{chain[odd].place}', which follow each other in time. Pieces of one trajectory differ in the number of "
            "frames only."
        )


# --- trajectories -----------------------------------------------------------------------------------------------------


def _as_trajectories(pieces: Sequence[Piece], varying: Sequence[str]) -> Piece:
    """Return pieces, each a trajectory or of several, as one; numbers that are `varying` become arrays."""
    first, lines = pieces[0], set(pieces[0].coordinates.values())
    counted = {name for name, axes in first.axes.items() if "trajectory" in axes and name in first.arrays}
    for name in counted:
        if first.axes[name][0] != "trajectory":
            raise DataError(
                f"Trajectories of '{name}' do not lie along its first axis, {first.axes[name]}, and there are "
                f"several files in '{first.place.parent}'. Give one file, or bring that axis to the front."
            )
    held = [
        replace(piece, arrays=piece.arrays | {name: np.asarray(piece.numbers[name]) for name in varying})
        for piece in pieces
    ]
    if counted:  # what is told for all trajectories of a file is repeated for each
        for place, piece in enumerate(held):
            count = max((int(piece.arrays[name].shape[0]) for name in counted if name in piece.arrays), default=0)
            told_once = {n: Repeated(a, 0, count) for n, a in piece.arrays.items() if n not in counted | lines}
            held[place] = replace(piece, arrays=piece.arrays | told_once)
    names = [name for name in held[0].arrays if name not in lines]
    joined = join_arrays(held, names, along_first=names if counted else ())
    axes = {
        name: own
        for name, array in joined.items()
        if (own := _axes_joined(first, name, tuple(array.shape), name in counted))
    }
    joined |= {name: first.arrays[name] for name in lines}
    remark = f"{len(pieces)} files or groups, {_first_to_last(pieces)}, are "
    alone = "one trajectory each, in the natural order of their names, unless a map says otherwise."
    remark += "joined along their trajectories." if counted else alone
    return replace(first, arrays=joined, axes=axes, remarks=[remark])


def _axes_joined(piece: Piece, name: str, shape: tuple[int, ...], counted: bool) -> tuple[str, ...]:
    """Return the axes of a joined array; none where they are not told."""
    if name in piece.axes:
        return piece.axes[name] if counted else ("trajectory", *piece.axes[name])
    if len(shape) == 1:
        return ("trajectory",)
    lengths = {axis: piece.arrays[own].shape[0] for axis, own in piece.coordinates.items()}
    axes, follows = guess_axes(shape[1:], lengths)
    if follows and "trajectory" not in axes:
        return ("trajectory", *axes)
    points = [length for axis, length in lengths.items() if axis in SPACE]
    if len(shape) == 2 and points and shape[1] not in points:  # a table of coefficients and no line of a field
        return ("trajectory", "channel")
    return ()
