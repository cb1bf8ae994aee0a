"""Axes of foreign arrays in any order; every expectation is an index written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scifm.data.formats.format import Concatenated, Contents, Repeated
from scifm.data.formats.kinds import WHOLE
from scifm.data.formats.mapping import DataMapping, FieldMapping
from scifm.data.formats.reader import MappedReader, check_mapping, frame_times, grid_of
from scifm.data.split import ChosenRows
from scifm.errors import ConfigError, DataError, StoreError

LENGTHS = {"trajectory": 5, "time": 7, "z": 2, "y": 3, "x": 4, "channel": 6, "-": 1}


def numbered(*axes):
    shape = [LENGTHS[axis] for axis in axes]
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


def contents(attributes=None, **arrays):
    return Contents(Path("file"), (), {WHOLE: arrays}, attributes=attributes or {})


def mapping(fields, **changes):
    space = next(iter(fields.values())).space
    settings = {
        "format": "test",
        "time": {"start": 1.0, "interval": 0.5},
        "extent": dict.fromkeys(space, 1.0),
        "periodic": dict.fromkeys(space, True),
    }
    return DataMapping(**{**settings, "fields": fields, **changes})


def chosen(rows, held, plan):
    return ChosenRows(MappedReader(held, WHOLE, plan), np.array(rows))


def one(*axes, role="state", channel=None):
    return {"u": FieldMapping(array="u", axes=axes, role=role, channel=channel)}


@pytest.mark.parametrize(
    ("axes", "channel"),
    [
        (("trajectory", "time", "y", "x"), None),
        (("x", "y", "time", "trajectory"), None),
        (("time", "trajectory", "x", "y"), None),
        (("trajectory", "time", "x", "y", "channel"), 4),
        (("channel", "y", "trajectory", "-", "x", "time"), 5),
    ],
)
def test_any_order_of_axes_comes_out_as_trajectory_time_y_x(axes, channel):
    array = numbered(*axes)
    plan = mapping(one(*axes, channel=channel))
    reader = MappedReader(contents(u=array), WHOLE, plan)
    block = reader.read("u", slice(1, 4), slice(2, 6))
    assert block.shape == (3, 4, 3, 4)
    place = {"trajectory": 1 + 2, "time": 2 + 1, "y": 2, "x": 3, "channel": channel, "-": 0}
    assert block[2, 1, 2, 3] == array[tuple(place[axis] for axis in axes)]
    assert grid_of(contents(u=array), plan).num_points == (3, 4)


def test_three_dimensions_and_one():
    array = numbered("trajectory", "time", "x", "y", "z")
    block = MappedReader(contents(u=array), WHOLE, mapping(one("trajectory", "time", "x", "y", "z"))).read(
        "u", slice(0, 5), slice(0, 7)
    )
    assert block.shape == (5, 7, 2, 3, 4)
    assert block[4, 6, 1, 0, 3] == array[4, 6, 3, 0, 1]
    array = numbered("x", "time")
    block = MappedReader(contents(u=array), WHOLE, mapping(one("x", "time"))).read("u", slice(0, 1), slice(3, 4))
    assert block.shape == (1, 1, 4)
    assert block[0, 0, 2] == array[2, 3]


def test_rows_in_any_order_and_every_other_frame():
    array = numbered("trajectory", "time", "x")
    plan = mapping(one("trajectory", "time", "x"), every=3)
    reader = chosen([4, 0, 1, 3], contents(u=array), plan)
    assert reader.num_trajectories == 4
    block = reader.read("u", slice(0, 4), slice(1, 3))
    np.testing.assert_array_equal(block, array[[4, 0, 1, 3]][:, [3, 6]])
    assert frame_times(contents(u=array), plan) == (1.0, 2.5, 4.0)


def test_a_repeated_end_is_left_out():
    array = numbered("trajectory", "time", "x", "y")
    plan = mapping(one("trajectory", "time", "x", "y"), repeated_end=("x",))
    block = MappedReader(contents(u=array), WHOLE, plan).read("u", slice(0, 1), slice(0, 1))
    np.testing.assert_array_equal(block[0, 0], array[0, 0, :3].T)
    assert grid_of(contents(u=array), plan).num_points == (3, 3)


def test_inputs_without_a_trajectory_axis_are_the_same_for_all():
    fields = one("trajectory", "time", "x") | {"mask": FieldMapping(array="mask", axes=("x",), role="input")}
    arrays = contents(u=numbered("trajectory", "time", "x"), mask=np.array([1.0, 2, 3, 4]))
    block = chosen([3, 1], arrays, mapping(fields)).read("mask", slice(0, 2), None)
    np.testing.assert_array_equal(block, [[1, 2, 3, 4], [1, 2, 3, 4]])


def test_coefficients_come_from_arrays_columns_attributes_and_numbers():
    plan = mapping(
        one("trajectory", "time", "x"),
        coefficients={
            "each": "D",
            "column": {"array": "table", "channel": 1},
            "whole": "Nu",
            "lone": "g",
            "told": 2.5,
        },
    )
    held = contents(
        {"Nu": 0.5},
        u=numbered("trajectory", "time", "x"),
        D=np.arange(5.0)[:, None],
        table=np.arange(10.0).reshape(5, 2),
        g=np.array(9.75),
    )
    check_mapping(held, plan)
    reader = chosen([2, 4], held, plan)
    values = {name: reader.read(name, slice(0, 2), None).tolist() for name in plan.coefficients}
    assert values == {
        "each": [2, 4],
        "column": [5, 9],
        "whole": [0.5, 0.5],
        "lone": [9.75, 9.75],
        "told": [2.5, 2.5],
    }


@pytest.mark.parametrize(
    ("coefficient", "message"),
    [
        ("Dx", "Did you mean 'D'"),
        ({"array": "table", "channel": 2}, "no column 2"),
        ({"array": "D", "channel": 0}, "no column 0"),
        ("table", "one number a trajectory"),
        ("u", "not one number a trajectory"),
    ],
)
def test_coefficients_that_do_not_fit(coefficient, message):
    u = np.zeros((5, 40, 40))
    held = contents({"Nu": 0.1}, u=u, D=np.arange(5.0), table=np.zeros((5, 2)))
    with pytest.raises(ConfigError, match=message):
        check_mapping(held, mapping(one("trajectory", "time", "x"), coefficients={"c": coefficient}))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (("trajectory", "time", "x"), "has 4 axes of lengths"),
        (("trajectory", "time", "-", "x"), "called '-' has length 3"),
    ],
)
def test_axes_that_do_not_fit(axes, message):
    with pytest.raises(ConfigError, match=message):
        check_mapping(contents(u=numbered("trajectory", "time", "y", "x")), mapping(one(*axes)))


def test_fields_that_disagree_and_channels_and_frames_that_are_not_there():
    fields = one("trajectory", "time", "x") | {"v": FieldMapping(array="v", axes=("time", "trajectory", "x"))}
    arrays = contents(u=numbered("trajectory", "time", "x"), v=numbered("trajectory", "time", "x"))
    with pytest.raises(ConfigError, match="trajectory axis of 'v' has length 7, that of 'u' 5"):
        check_mapping(arrays, mapping(fields))
    axes = ("trajectory", "time", "x", "channel")
    with pytest.raises(ConfigError, match="channel 6 of 6"):
        check_mapping(contents(u=numbered(*axes)), mapping(one(*axes, channel=6)))
    with pytest.raises(ConfigError, match="At least 2 frames"):
        check_mapping(contents(u=numbered("trajectory", "time", "x")), mapping(one("trajectory", "time", "x"), every=7))
    with pytest.raises(DataError, match="is empty"):
        check_mapping(contents(u=np.zeros((0, 7, 4))), mapping(one("trajectory", "time", "x")))
    with pytest.raises(ConfigError, match=r"'ux' is unknown\. Did you mean 'u'"):
        check_mapping(contents(u=numbered("time", "x")), mapping({"u": FieldMapping(array="ux", axes=("time", "x"))}))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (np.arange(7.0), tuple(range(7))),
        (np.arange(8.0), tuple(range(7))),  # with the end of the last interval
        (np.tile(np.arange(7.0), (5, 1)), tuple(range(7))),
    ],
)
def test_times_from_an_array(times, expected):
    held = contents(u=numbered("trajectory", "time", "x"), t=times)
    assert frame_times(held, mapping(one("trajectory", "time", "x"), time="t")) == expected


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        (np.arange(5.0), ConfigError, "have shape"),
        (np.arange(7.0)[::-1], DataError, "must be finite and increase"),
        (np.array([0, 1, 2, np.nan, 4, 5, 6]), DataError, "must be finite and increase"),
        (np.arange(7.0) * np.arange(1, 6)[:, None], DataError, "differ between trajectories; resample"),
        (1.7e9 + np.arange(7.0) * np.where(np.arange(5) % 2, 60, 600)[:, None], DataError, "trajectories; resample"),
        (1.7e9 + np.arange(7.0) + np.arange(5)[:, None], DataError, "in where they begin, not in their intervals"),
    ],
)
def test_times_that_cannot_be(times, error, message):
    held = contents(u=numbered("trajectory", "time", "x"), t=times)
    with pytest.raises(error, match=message):
        check_mapping(held, mapping(one("trajectory", "time", "x"), time="t"))


def test_a_read_that_fails_and_a_number_that_is_none_say_where():
    class Damaged:
        shape, dtype = (5, 7, 4), np.dtype(float)

        def __getitem__(self, index):
            raise OSError("checksum")

    plan = mapping(one("trajectory", "time", "x"))
    with pytest.raises(StoreError, match=r"'u' of .* is truncated or damaged \(checksum"):
        MappedReader(contents(u=Damaged()), WHOLE, plan).read("u", slice(0, 1), slice(0, 1))
    array = numbered("trajectory", "time", "x")
    array[3, 2, 1] = np.inf
    reader = chosen([0, 3], contents(u=array), plan)
    with pytest.raises(DataError, match=r"'u' holds NaN or infinity in sample 3, frame [0-9], of "):
        reader.read("u", slice(0, 2), slice(0, 7))


@pytest.mark.parametrize("values", [np.full((5, 7, 4), "words"), np.full((5, 7, 4), 1j)])
def test_what_is_no_real_number_is_refused(values):
    u, fields = numbered("trajectory", "time", "x"), one("trajectory", "time", "x")
    with pytest.raises(ConfigError, match="The array 'u' is of type"):
        check_mapping(contents(u=values), mapping(fields))
    with pytest.raises(ConfigError, match="The array 't' is of type"):
        check_mapping(contents(u=u, t=values[0, :, 0]), mapping(fields, time="t"))
    with pytest.raises(ConfigError, match="The array 'D' is of type"):
        check_mapping(contents(u=u, D=values[:, 0, 0]), mapping(fields, coefficients={"D": "D"}))


def test_joined_and_stacked_arrays_are_read_in_blocks():
    parts = [np.arange(4).reshape(2, 2), np.arange(4, 10).reshape(3, 2)]
    joined = Concatenated(parts)
    whole = np.concatenate(parts)
    assert joined.shape == (5, 2)
    for start in range(6):
        for stop in range(start, 6):
            np.testing.assert_array_equal(joined[slice(start, stop), slice(1, 2)], whole[start:stop, 1:2])
    stacked = Concatenated([Repeated(np.arange(3), 0, 1), Repeated(np.arange(3, 6), 0, 1)])
    assert stacked.shape == (2, 3)
    np.testing.assert_array_equal(stacked[slice(1, 2), slice(0, 2)], [[3, 4]])
    assert stacked[slice(1, 1), slice(0, 2)].shape == (0, 2)
