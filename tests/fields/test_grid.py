from __future__ import annotations

from typing import get_args

import pytest

from scifm.errors import ConfigError, SignatureError
from scifm.fields.grid import Boundary, Grid


def test_one_side_and_one_word_are_for_all_axes():
    assert Grid((6, 8)) == Grid((6, 8), (1.0, 1.0), ("periodic", "periodic")) == Grid((6, 8), 1, True)
    assert Grid([6, 8], 2.0, "wall").extent == (2.0, 2.0)
    assert Grid((6, 8), boundary=(True, False)).boundary == ("periodic", "bounded")


def test_both_ends_are_points_unless_it_wraps():
    grid = Grid((5, 5, 5, 5)[:3], 1.0, ("periodic", "wall", "open"))
    assert grid.periodic == (True, False, False)
    assert grid.spacing == (0.2, 0.25, 0.25)
    assert [float(line[-1]) for line in grid.coordinates()] == [0.8, 1.0, 1.0]


def test_it_says_what_stands_at_its_ends():
    assert Grid((4,)).told == "4 points on a box of 1, periodic along x"
    grid = Grid((4, 6, 8), (1, 2, 3), ("open", "wall", "open"))
    assert grid.told == "4 × 6 × 8 points on a box of 1 × 2 × 3, with walls along y, open along z and x"


@pytest.mark.parametrize("word", get_args(Boundary))
def test_every_kind_of_ends_is_told(word):
    assert Grid((4,), boundary=word).told.endswith(" along x")


def test_what_was_written_before_ends_had_names_is_read():
    grid = Grid((4, 6), 1.0, ("periodic", "bounded"))
    assert Grid.from_dict({"num_points": [4, 6], "extent": [1.0, 1.0], "periodic": [True, False]}) == grid
    assert Grid.from_dict(grid.to_dict()) == grid


def test_what_makes_no_grid_is_refused():
    with pytest.raises(SignatureError, match="Did you mean 'periodic'"):
        Grid((4, 6), boundary="periodical")
    for wrong in (((4, 6), (1.0,)), ((4, 6), 1.0, ("wall",)), ((), 1.0), ((4,) * 4, 1.0)):
        with pytest.raises(SignatureError, match="of the same length 1, 2 or 3"):
            Grid(*wrong)
    for wrong in (((4, 1),), ((4, 6), 0.0), ((4, 6), float("nan"))):
        with pytest.raises(SignatureError, match="at least 2 points and a positive finite extent"):
            Grid(*wrong)
    with pytest.raises(ConfigError, match=r"'boundary\.0' = 'closed'"):
        Grid.from_dict({"num_points": [4], "extent": [1.0], "boundary": ["closed"]})
