"""Pieces that belong together, told as one: by splits, by variables, in time, and as trajectories.

What belongs together is told by names and numbers, never by position alone: files are in natural order (2 before 10),
and files of different variables are paired by that in which the names of each differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scifm.data.formats.contents import Contents, LazyArray, nothing_to_close
from scifm.data.formats.draft import guess_axes
from scifm.data.formats.kinds import natural
from scifm.data.formats.mapping import SPACE
from scifm.data.formats.members import NumberArray, group_by_split, join_arrays, joined_attributes
from scifm.data.formats.meshes import with_lines_of_meshes
from scifm.data.formats.pieces import Piece, by_group, first_to_last, shared_out
from scifm.data.formats.time_pieces import joined_in_time
from scifm.data.formats.views import Repeated
from scifm.errors import DataError, StoreError

__all__ = ["join_pieces"]


def join_pieces(
    path: Path, files: Sequence[Path], pieces: Sequence[Piece], *, close: Callable[[], None] = nothing_to_close
) -> Contents:
    """Return the contents of a file or folder from what each of its files holds.

    Args:
        path: what was opened.
        files: the data sets it was found in, in natural order.
        pieces: one a file.
        close: closes what is open.

    Raises:
        DataError: if they do not belong together; says which two, and what differs.
    """
    inner = [with_lines_of_meshes(own) for piece in pieces for own in by_group(piece)]
    by_place = {piece.place: piece for piece in inner}
    groups = group_by_split(path, list(by_place))
    parts = {part: _by_variable([by_place[place] for place in own]) for part, own in groups.items()}
    parts = {part: joined_in_time([piece.with_axes_of_meshes() for piece in own]) for part, own in parts.items()}
    every = [piece for own in parts.values() for piece in own]
    numbers, varying = joined_attributes({piece.place: piece.numbers for piece in every})
    many = max(map(len, parts.values())) > 1
    if many:
        every = [_with_numbers(piece, {k: v[piece.place] for k, v in varying.items()}) for piece in every]
    whole = {piece.place: piece for piece in every}
    joined = {}
    for part, own in parts.items():
        members = [whole[piece.place] for piece in own]
        joined[part] = _as_trajectories(members) if many else members[0]
    first = next(iter(joined.values()))
    if not first.content:
        raise StoreError(f"'{path}' holds no arrays of numbers, but for coordinates and single numbers.")
    _require_alike(path, {part: piece.arrays for part, piece in joined.items()})
    return Contents(
        path,
        tuple(files),
        {part: piece.arrays for part, piece in joined.items()},
        numbers,
        axes={name: axes for name, axes in first.axes.items() if name in first.arrays},
        coordinates=first.coordinates,
        periodic=first.periodic,
        remarks=tuple(dict.fromkeys(remark for piece in (*inner, *joined.values()) for remark in piece.remarks)),
        close=close,
    )


def _require_alike(path: Path, parts: Mapping[str, Mapping[str, LazyArray]]) -> None:
    first, names = next(iter(parts.items()))
    for part, arrays in parts.items():
        odd = sorted(set(names) ^ set(arrays))
        if odd:
            raise DataError(
                f"'{odd[0]}' of '{path}' is not in both {first} and {part}. All splits need the same arrays."
            )


def _with_numbers(piece: Piece, numbers: Mapping[str, float]) -> Piece:
    """Return a piece in which numbers that differ from piece to piece are arrays."""
    return replace(piece, arrays={**piece.arrays, **{name: NumberArray(value) for name, value in numbers.items()}})


# --- one variable a file ----------------------------------------------------------------------------------------------


def _by_variable(pieces: Sequence[Piece]) -> list[Piece]:
    """Return pieces with all arrays each, where every file holds one variable or the coordinates alone.

    Raises:
        DataError: if the files of one variable are others than those of another.
    """
    kinds: dict[frozenset[str], list[Piece]] = {}
    for piece in pieces:
        kinds.setdefault(piece.content, []).append(piece)
    if len(kinds) == 1 or sum(map(len, kinds)) != len(frozenset().union(*kinds)):
        return list(pieces)  # alike, or unlike in a way that joining will tell
    series = {content: own for content, own in kinds.items() if len(own) > 1 and content}
    alone = [piece for content, own in kinds.items() if content not in series for piece in own]
    rows = _paired(list(series.values())) if series else [[]]
    merged = rows[0][:1] and [_merged(row) for row in rows]
    if not merged:
        return [_merged(alone)]
    shares = [shared_out(piece, len(merged)) for piece in alone]
    return [_merged([own, *row]) for own, *row in zip(merged, *shares, strict=True)]


def _keys(pieces: Sequence[Piece]) -> dict[tuple[tuple[int, int, str], ...], Piece]:
    """Return pieces by that in which their names differ: the numbers of ``u_1``, ``u_02``, ``u_10``."""
    names = [str(piece.place.with_suffix("")) for piece in pieces]
    before = re.sub(r"\d+$", "", _common_start(names))
    after = re.sub(r"^\d+", "", _common_start([name[::-1] for name in names])[::-1])
    differ = [name[len(before) : max(len(before), len(name) - len(after))] for name in names]
    keys = [tuple((kind, number, "" if kind == 0 else text) for kind, number, text in natural(own)) for own in differ]
    found = dict(zip(keys, pieces, strict=True))
    if len(found) != len(pieces):
        twice = next(place for place, key in enumerate(keys) if keys.index(key) != place)
        raise DataError(
            f"'{pieces[keys.index(keys[twice])].place}' and '{pieces[twice].place}' have the same number. Give each "
            "file a number of its own, so that files of different variables can be paired."
        )
    return found


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _paired(series: Sequence[Sequence[Piece]]) -> list[list[Piece]]:
    """Return the pieces of one variable with those of the others that have the same number."""
    if len(series) == 1:
        return [[piece] for piece in series[0]]
    keyed = [_keys(own) for own in series]
    for own in keyed[1:]:
        odd = next(iter(own.keys() ^ keyed[0].keys()), None)
        if odd is not None:
            lone = (keyed[0] | own)[odd]
            names = [", ".join(sorted(next(iter(found.values())).content)) for found in (keyed[0], own)]
            raise DataError(
                f"'{lone.place}' has no partner: files of {names[0]} and of {names[1]} belong together by the number "
                "in their names, and each number has to be there for both. Add the file, or move away what does not "
                "belong."
            )
    return [[own[key] for own in keyed] for key in keyed[0]]


def _merged(pieces: Sequence[Piece]) -> Piece:
    """Return one piece with the arrays of several, which are of one problem."""
    first = pieces[0]
    for piece in pieces[1:]:
        shared = set(first.coordinates.values()) & set(piece.coordinates.values())
        both = {name: (first.arrays[name], piece.arrays[name]) for name in shared}
        differing = {name: pair for name, pair in both.items() if pair[0] is not pair[1]}
        if differing:
            found = [{name: pair[i] for name, pair in differing.items()} for i in (0, 1)]
            join_arrays([first.place, piece.place], found, shared=differing)
        first = replace(
            first,
            arrays={**first.arrays, **{n: a for n, a in piece.arrays.items() if n not in first.arrays}},
            axes={**piece.axes, **first.axes},
            coordinates={**piece.coordinates, **first.coordinates},
            periodic={**piece.periodic, **first.periodic},
            numbers={**piece.numbers, **first.numbers},
            meshes={**piece.meshes, **first.meshes},
            origins={**piece.origins, **first.origins},
            remarks=tuple(dict.fromkeys((*first.remarks, *piece.remarks))),
        )
    return first


# --- trajectories -----------------------------------------------------------------------------------------------------


def _as_trajectories(pieces: Sequence[Piece]) -> Piece:
    """Return many pieces as one: each a trajectory, or joined along the trajectories that they hold themselves."""
    first, places = pieces[0], [piece.place for piece in pieces]
    shared = set(first.coordinates.values())
    counted = {name for name, axes in first.axes.items() if "trajectory" in axes and name in first.arrays}
    for name in counted:
        if first.axes[name][0] != "trajectory":
            raise DataError(
                f"Trajectories of '{name}' do not lie along its first axis, {first.axes[name]}, and there are "
                f"several files in '{first.place.parent}'. Give one file, or bring that axis to the front."
            )
    found = [_counted(piece, counted, shared) if counted else dict(piece.arrays) for piece in pieces]
    joined = join_arrays(places, found, along_first=set(found[0]) - shared if counted else (), shared=shared)
    axes = {name: _axes_joined(first, name, tuple(array.shape), name in counted) for name, array in joined.items()}
    told = f"{len(pieces)} files or groups, {first_to_last(pieces)}, are "
    alone = "one trajectory each, in the natural order of their names, unless a map says otherwise."
    told += "joined along their trajectories." if counted else alone
    return replace(first, arrays=joined, axes={n: a for n, a in axes.items() if a and n not in shared}, remarks=(told,))


def _axes_joined(piece: Piece, name: str, shape: tuple[int, ...], counted: bool) -> tuple[str, ...]:
    """Return the axes of a joined array; none where they are not told."""
    if name in piece.axes:
        return piece.axes[name] if counted else ("trajectory", *piece.axes[name])
    if len(shape) == 1:
        return ("trajectory",)
    axes, follows = guess_axes(shape[1:], {a: piece.arrays[own].shape[0] for a, own in piece.coordinates.items()})
    if follows and "trajectory" not in axes:
        return ("trajectory", *axes)
    lengths = [piece.arrays[own].shape[0] for axis, own in piece.coordinates.items() if axis in SPACE]
    if len(shape) == 2 and lengths and shape[1] not in lengths:  # a table of coefficients and no line of a field
        return ("trajectory", "channel")
    return ()


def _counted(piece: Piece, counted: set[str], shared: set[str]) -> dict[str, LazyArray]:
    """Return the arrays of a piece, those told for all its trajectories repeated for each."""
    name = next(iter(sorted(counted & piece.arrays.keys())), None)
    count = 0 if name is None else int(piece.arrays[name].shape[0])
    return {n: a if n in counted or n in shared else Repeated(a, 0, count) for n, a in piece.arrays.items()}
