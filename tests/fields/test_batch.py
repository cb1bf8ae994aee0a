from __future__ import annotations

import pytest

from scifm.errors import SignatureError
from scifm.fields.batch import Signature


@pytest.mark.parametrize("dims", [0, 4, 2_000_000, -1])
def test_space_has_one_to_three_dimensions(dims):
    with pytest.raises(SignatureError, match=f"must be 1, 2 or 3; got {dims}"):
        Signature(("f",), (), ("u",), num_spatial_dims=dims)


@pytest.mark.parametrize(
    "names",
    [
        {"inputs": ("f", "f"), "coefficients": (), "outputs": ("u",)},
        {"inputs": ("f",), "coefficients": ("f",), "outputs": ("u",)},
        {"inputs": ("u",), "coefficients": (), "outputs": ("u",)},
    ],
)
def test_names_differ_except_for_the_state_of_what_evolves(names):
    with pytest.raises(SignatureError, match="must differ from each other"):
        Signature(**names)
    state = Signature(("u", "f"), ("k",), ("u",), evolves=True)
    assert (state.state, state.fields) == (("u",), ("u", "f"))


@pytest.mark.parametrize("empty", ["inputs", "outputs"])
def test_at_least_one_field_each_way(empty):
    names = {"inputs": ("f",), "coefficients": (), "outputs": ("u",)}
    with pytest.raises(SignatureError, match="at least one input and one output"):
        Signature(**{**names, empty: ()})
