from __future__ import annotations

import pytest

from scifm.config import build_config
from scifm.data.formats.mapping import CoefficientMapping, DataMapping
from scifm.errors import ConfigError

STATE = {"array": "u", "axes": ["trajectory", "time", "y", "x"]}
BASE = {
    "format": "pdebench",
    "fields": {"u": STATE},
    "time": "t",
    "extent": {"x": 1.0, "y": 2.0},
    "boundary": {"x": "periodic", "y": "wall"},
}


def build(**changes):
    return build_config(DataMapping, {**BASE, **changes}, source="a test")


def test_a_mapping_makes_a_signature():
    mapping = build(
        fields={
            "u": STATE,
            "force": {"array": "f", "axes": ["trajectory", "y", "x"], "role": "input"},
            "heat": {"array": "q", "axes": ["trajectory", "time", "y", "x", "channel"], "role": "output", "channel": 1},
        },
        coefficients={"nu": "viscosity", "g": 9.81, "m": {"array": "table", "channel": 2}},
    )
    assert mapping.space == ("y", "x")
    assert mapping.signature.inputs == ("u", "force")
    assert mapping.signature.outputs == ("u", "heat")
    assert mapping.signature.coefficients == ("nu", "g", "m")
    assert mapping.signature.evolves
    assert mapping.coefficients["nu"] == CoefficientMapping(array="viscosity")
    assert mapping.coefficients["g"].value == 9.81
    assert build_config(DataMapping, mapping.to_dict(), source="itself") == mapping


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {}}, "at least 1"),
        ({"fields": {"u": STATE | {"axes": ["trajectory", "time", "r"]}}}, "every axis is one of"),
        ({"fields": {"u": STATE | {"axes": ["time", "x", "x"]}}}, "at most once"),
        ({"fields": {"u": STATE | {"axes": ["trajectory", "-"]}}}, "at least one of the axes x, y, z, or.* time"),
        ({"fields": {"u": STATE | {"channel": 0}}}, "exactly where axes hold 'channel'"),
        ({"fields": {"u": STATE | {"axes": ["time", "y", "x", "channel"]}}}, "exactly where axes hold 'channel'"),
        ({"fields": {"u": STATE | {"role": "both"}}}, "role"),
        ({"fields": {"u": STATE, "v": {"array": "v", "axes": ["time", "x"]}}}, "same axes of space"),
        ({"extent": {"x": 1.0}}, "extent must be given for exactly y, x"),
        ({"boundary": {"x": "periodic", "y": "periodic", "z": "periodic"}}, "boundary must be given for exactly y, x"),
        ({"repeated_end": ["y"]}, "repeated_end names axes that are periodic"),
        ({"time": None}, "'time' is needed"),
        ({"fields": {"u": STATE | {"role": "output"}}}, "'time' is for fields of role 'state'"),
        ({"fields": {"u": STATE | {"axes": ["trajectory", "y", "x"]}}}, "no time axis"),
        ({"fields": {"u": STATE, "f": STATE | {"role": "input"}}}, "an input does not change in time"),
        ({"time": None, "fields": {"u": STATE | {"role": "output"}}}, "call the axis '-'"),
        ({"time": {"interval": 0}}, "interval"),
        ({"every": 0}, "every"),
        ({"splits": {"train": 0.5}}, "sum to 1"),
        ({"splits": {"test": 1.0}}, "train not 0"),
        ({"splits": {"train": 0.5, "other": 0.5}}, "shares of train, valid and test"),
        ({"coefficients": {"c": float("nan")}}, "finite"),
        ({"coefficients": {"c": {}}}, "either the name"),
        ({"coefficients": {"c": True}}, "coefficients"),
        ({"fieldz": {}}, "fieldz"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as told:
        build(**changes)
    assert "\n" not in str(told.value)


def test_maps_of_before_are_read():
    tree = {name: entry for name, entry in build().to_dict().items() if name != "boundary"}
    old = {**tree, "periodic": {"x": True, "y": False}}
    assert DataMapping.model_validate(old).boundary == {"x": "periodic", "y": "bounded"}
    with pytest.raises(ValueError, match="give boundary alone"):
        DataMapping.model_validate({**old, "boundary": {"x": "periodic", "y": "wall"}})


def test_nothing_given_or_nothing_asked_for_makes_no_signature():
    output = {"array": "u", "axes": ["x"], "role": "output"}
    mapping = build(fields={"u": output}, time=None, extent={"x": 1}, boundary={"x": "periodic"})
    with pytest.raises(ConfigError, match="what is given and what is asked for"):
        _ = mapping.signature
