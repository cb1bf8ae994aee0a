from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scifm.data.subsets import nested_subsets, split_validation
from scifm.errors import ConfigError, DataError


@given(
    num_available=st.integers(1, 300),
    fractions=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_subsets_are_nested_and_distinct(num_available, fractions, seed):
    counts = [round(f * num_available) for f in fractions]
    subsets = nested_subsets(num_available, counts, seed)
    assert set(subsets) == set(counts)
    previous: set[int] = set()
    for count in sorted(subsets):
        index = subsets[count]
        assert index.dtype == torch.long
        chosen = set(index.tolist())
        assert len(chosen) == len(index) == count
        assert chosen <= set(range(num_available))
        assert previous <= chosen
        previous = chosen


def test_a_subset_depends_on_its_count_and_seed_only():
    alone = nested_subsets(100, [16], 3)[16]
    assert torch.equal(alone, nested_subsets(100, [64, 16, 4], 3)[16])
    assert not torch.equal(alone, nested_subsets(100, [16], 4)[16])


def test_subsets_are_not_the_first_samples():
    assert nested_subsets(1000, [16], 0)[16].max() > 100


@pytest.mark.parametrize("counts", [[11], [4, 11], [-1]])
def test_subsets_that_cannot_be(counts):
    with pytest.raises(DataError, match="10"):
        nested_subsets(10, counts, 0)


@given(num_samples=st.integers(2, 200), held_out=st.floats(0.001, 0.999), seed=st.integers(0, 99))
def test_validation_and_training_part_share_the_samples(num_samples, held_out, seed):
    train, valid = split_validation(num_samples, held_out, seed=seed)
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(num_samples))
    assert len(train) >= 1
    assert len(valid) >= 1
    assert len(valid) in (1, num_samples - 1, round(held_out * num_samples))


def test_validation_by_count_and_seed():
    train, valid = split_validation(20, 5, seed=1)
    assert (len(train), len(valid)) == (15, 5)
    assert torch.equal(valid, split_validation(20, 5, seed=1)[1])
    assert not torch.equal(valid, split_validation(20, 5, seed=2)[1])


def test_validation_does_not_follow_the_subsets():
    """The held-out part must not simply be the smallest few-shot subset of the same seed."""
    assert not torch.equal(split_validation(50, 10, seed=0)[1], nested_subsets(50, [10], 0)[10])


@pytest.mark.parametrize(("num_samples", "held_out"), [(1, 0.25), (0, 0.25), (5, 5), (1, 1)])
def test_too_few_samples_to_split(num_samples, held_out):
    with pytest.raises(DataError, match=r"Too few samples to split: \d.*at least \d+ samples"):
        split_validation(num_samples, held_out, seed=0)


@pytest.mark.parametrize("held_out", [0.0, 1.0, 1.5, -0.1, 0, -3])
def test_impossible_validation_part(held_out):
    with pytest.raises(ConfigError, match="held out"):
        split_validation(10, held_out, seed=0)
