"""Damage for `fuzz`: seeded ways to spoil bytes, trees of settings, HDF5 files and headers of weights."""

# ruff: noqa: E501 - tables of odd values
from __future__ import annotations

import copy
import json
import random
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["WEIRD", "spoil_bytes", "spoil_file", "spoil_hdf5", "spoil_json", "spoil_npy", "spoil_tree", "spoil_weights"]

HUGE = (2**31, 10**9, 2**40, 2**62, 2**63, 2**64, 10**30)
WEIRD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 1e308, -1e-320, float("nan"), float("inf"), *HUGE, -(10**30),
    "", "nan", "1e999", "../../escape", "/etc/hostname", "a" * 10_000, "\x00", "☃\u202e", "poisson", "[0]", "{x!r}",
    [], {}, [[]], [None], [1, "a", {}], {"a": {"b": {}}}, {"": 0}, [1e308] * 3, ["x"] * 100, list(range(1000)),
)  # fmt: skip
"""Values that nobody expects where they stand."""


def nested(depth: int, kind: type) -> Any:
    node: Any = 1
    for _ in range(depth):
        node = [node] if kind is list else {"a": node}
    return node


def weird(dice: random.Random) -> Any:
    if dice.random() < 0.05:
        return nested(dice.choice((3, 50, 900)), dice.choice((list, dict)))
    return copy.deepcopy(dice.choice(WEIRD))  # trees are changed further, and inputs may not hang on each other


def _places(tree: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            found.append((tree, key))
            _places(tree[key], found)
    return found


def spoil_tree(tree: Any, dice: random.Random, *, times: int = 2) -> Any:
    """Change a tree of dicts and lists in place: values replaced, keys dropped, added, misspelled, exchanged."""
    for _ in range(dice.randint(1, times)):
        places = _places(tree, [])
        if not places:
            return weird(dice)
        node, key = dice.choice(places)
        way = dice.randrange(6)
        if way == 0:
            del node[key]
        elif way == 1 and isinstance(node, dict):
            node[dice.choice(("unknown", "", "a.b", "..", str(key) + "s", "x" * 300))] = weird(dice)
        elif way == 2 and isinstance(node, dict):
            node[str(key)[:-1] + "_"] = node.pop(key)
        elif way == 3:
            other, place = dice.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                node[key] = json.loads(json.dumps(other[place], default=str))
        elif way == 4 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] = dice.choice((-1, 0, 0.5, 1e-300, 1e300, 10**6, 10**12)) * node[key]
        else:
            node[key] = weird(dice)
    return tree


def spoil_bytes(content: bytes, dice: random.Random) -> bytes:
    """Return bytes that are flipped, cut off, repeated, blanked or added to; most often near the beginning."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 6))):
        end = len(data) if dice.random() < 0.5 else min(len(data), 2200)
        if not end:
            return bytes(dice.randrange(256) for _ in range(dice.randrange(64)))
        place, way = dice.randrange(end), dice.randrange(8)
        if way < 3:
            data[place] ^= 1 << dice.randrange(8)
        elif way == 3:
            data[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif way == 4:
            del data[place:]
        elif way == 5:
            data[place : place + dice.choice((2, 4, 8, 64))] = dice.choice((b"\xff", b"\0")) * 8
        elif way == 6:
            data[place:place] = data[max(0, place - 64) : place]
        else:
            value = dice.choice(HUGE) % 2**64
            data[place : place + 8] = struct.pack(dice.choice("<>") + "Q", value)
    return bytes(data)


def spoil_file(path: Path, dice: random.Random) -> None:
    path.write_bytes(spoil_bytes(path.read_bytes(), dice))


def spoil_json(path: Path, dice: random.Random) -> None:
    """Change what a JSON file says, or its bytes."""
    if dice.random() < 0.25:
        spoil_file(path, dice)
    elif dice.random() < 0.1:
        depth = dice.choice((10, 5000, 200_000))
        path.write_text(dice.choice(("[" * depth, '{"a":' * depth, "9" * 5000, "[]", "0", '""', "null", "NaN")))
    else:
        try:
            path.write_text(json.dumps(spoil_tree(json.loads(path.read_text()), dice)))
        except (RecursionError, ValueError):  # deeper than json can tell, or a ring
            path.write_text('{"a":' * 5000)


def spoil_weights(path: Path, dice: random.Random) -> None:
    """Change the header of a safetensors file: shapes, kinds, places, names; or its bytes."""
    content = path.read_bytes()
    if dice.random() < 0.35 or len(content) < 8:
        path.write_bytes(spoil_bytes(content, dice))
        return
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = dice.choice([key for key in header if key != "__metadata__"])
    way = dice.randrange(7)
    if way == 0:
        header[name]["shape"] = [dice.choice(HUGE) for _ in range(dice.randint(1, 3))]
    elif way == 1:
        header[name]["dtype"] = dice.choice(("F64", "I8", "BF16", "C64", "BOOL", "F4", "OBJECT", ""))
    elif way == 2:
        header[name]["data_offsets"] = [0, dice.choice(HUGE)]
    elif way == 3:
        header[dice.choice(("../../x", "", "weights/x", "best/", "optimizer/a", "optimizer/a/b"))] = header.pop(name)
    elif way == 4:
        header[name]["shape"] = header[name]["shape"][::-1] + [1] * dice.randrange(3)
    elif way == 5:
        header["__metadata__"] = {"position": json.dumps(weird(dice)), "sha256": "0"}
    else:
        header = spoil_tree(header, dice)
    text = json.dumps(header).encode()
    size = len(text) if dice.random() < 0.9 else dice.choice(HUGE) % 2**64
    path.write_bytes(size.to_bytes(8, "little") + text + rest)


def spoil_npy(path: Path, dice: random.Random) -> None:
    """Write another header before the numbers of an .npy file."""
    shape = dice.choice(((2**40, 2**20), (10**9,), (-1, 4), (), (0, 3), (2**63, 2**63), (5, 3, 8, 10), (10**30,)))
    kind = dice.choice(("<f4", "<f8", "|O", "<U8", "<c8", "|S0", "<M8[s]", "<i4", "[('a','<f4')]", "'"))
    text = f"{{'descr': {kind!r}, 'fortran_order': {dice.choice((True, False, 3))}, 'shape': {shape}, }}".encode()
    text = text.ljust(118) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + path.read_bytes()[128:])


def spoil_hdf5(path: Path, dice: random.Random) -> None:
    """Change what an HDF5 file says: an array of another kind, shape or place, or an attribute; or its bytes."""
    if dice.random() < 0.45:
        spoil_file(path, dice)
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(dice.choice((1, 1, 2))):
            name = dice.choice(names)
            if not _lies_here(file, name):
                continue
            if dice.random() < 0.35:
                node = dice.choice((file, file[name]))
                attribute = dice.choice(
                    [*node.attrs, "bc_type", "_FillValue", "units", "scale_factor", "DIMENSION_LIST"]
                )
                if dice.random() < 0.3:
                    node.attrs.pop(attribute, None)
                    continue
                value = dice.choice((-1, 2**62, np.nan, 1e308, "x", "../..", b"\xff\xfe", ["a"] * 9, [], np.zeros((3, 3)),
                                     h5py.Empty("f4"), True, ["x", "x"], 10**9))  # fmt: skip
                node.attrs[attribute] = value
            else:
                _replace_array(file, name, dice)


def _replace_array(file: h5py.File, name: str, dice: random.Random) -> None:
    old = file[name]
    shape = old.shape if isinstance(old, h5py.Dataset) and old.shape else (5,)
    attributes = dict(old.attrs)
    held = isinstance(old, h5py.Dataset) and old.shape is not None and not old.is_virtual
    small = held and old.nbytes <= min(10**7, old.id.get_storage_size())
    values = old[()] if small else np.zeros(shape if small else 5)
    del file[name]
    way = dice.randrange(14)
    if way < 3:  # declared, never written
        longer = list(shape)
        longer[dice.randrange(len(shape))] = dice.choice((10**6, 10**9, 2**40, 2**62))
        file.create_dataset(name, [max(1, n) for n in longer], dice.choice(("f4", "f8")), chunks=(1,) * len(longer))
    elif way == 3:
        file.create_dataset(name, tuple(dice.choice((1, 3, 2**33)) for _ in shape), "f4", chunks=(1,) * len(shape))
    elif way == 4:
        values = np.array(values if _real(values) else np.zeros(3), dtype="f4", copy=True)
        values.reshape(-1)[dice.randrange(max(values.size, 1)) if values.size else slice(0)] = np.nan
        file[name] = values
    elif way == 5:
        file.create_dataset(name, shape, dice.choice(("c8", "S5", "i1", "?", "u8", h5py.string_dtype(),
                            h5py.vlen_dtype(np.float32), [("a", "f4")], h5py.ref_dtype, "V8", "f2")))  # fmt: skip
    elif way == 6:
        file[name] = h5py.Empty("f4")
    elif way == 7:
        file[name] = 1.0
    elif way == 8:
        file[name] = h5py.SoftLink(dice.choice((f"/{name}", "/nowhere", "/")))
    elif way == 9:
        file[name] = h5py.ExternalLink(dice.choice(("../../secret.h5", "/etc/hostname", "missing.h5")), "/fields")
    elif way == 10:
        file.create_group(name)
    elif way == 11:
        file[name] = np.asarray(values)[..., :0] if np.ndim(values) else np.zeros(0)
    elif way == 12:
        layout = h5py.VirtualLayout(shape=shape, dtype="f4")
        layout[...] = h5py.VirtualSource("/etc/hostname", "x", shape=shape)
        file.create_virtual_dataset(name, layout)
    else:
        file[name] = np.asarray(values, dtype="f8") * dice.choice((0.0, -1.0, 1e300)) if _real(values) else np.zeros(3)
    if _lies_here(file, name) and isinstance(file[name], h5py.Dataset) and dice.random() < 0.7:
        for key, value in attributes.items():
            if key not in ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS"):
                file[name].attrs[key] = value


def _lies_here(file: h5py.File, name: str) -> bool:
    """Return whether a name leads to something in this file, links to links and other files left out."""
    group = name.rpartition("/")[0]
    if group and not (_lies_here(file, group) and isinstance(file[group], h5py.Group)):
        return False
    place = file[group or "/"]
    key = name.rpartition("/")[2]
    return key in list(place) and isinstance(place.get(key, getlink=True), h5py.HardLink)


def _real(values: Any) -> bool:
    return np.asarray(values).dtype.kind in "fiub"
