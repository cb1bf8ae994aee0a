from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scifm.data.stream import WHOLE, Epochs, Part, Stream
from scifm.errors import ConfigError, DataError


@pytest.fixture
def stream(toy):
    return Stream(toy.System(), toy.grid, batch_size=3, seed=5)


def test_stream_is_a_function_of_seed_and_step(stream, toy):
    later = stream.batch(7)
    stream.batch(0)
    torch.rand(3)  # the global generator plays no part
    assert toy.same(stream.batch(7), later)
    assert toy.same(Stream(toy.System(), toy.grid, batch_size=3, seed=5).batch(7), later)
    other = Stream(toy.System(), toy.grid, batch_size=3, seed=6).batch(7)
    assert not torch.equal(other.inputs, later.inputs)


def test_stream_never_repeats(stream):
    seen = torch.cat([stream.batch(step).inputs[:, 0, 0, 0, 0] for step in range(20)])
    assert len(torch.unique(seen)) == 60


def test_stream_says_what_it_gives(stream, toy):
    assert stream.signature == toy.System.signature
    assert stream.grid == toy.grid
    assert stream.num_samples is None
    batch = stream.batch(0)
    assert batch.num_samples == 3
    assert batch.inputs.dtype == torch.float32
    double = Stream(toy.System(), toy.grid, batch_size=3, seed=5, dtype=torch.float64).batch(0)
    assert double.inputs.dtype == torch.float64


def test_stream_and_store_of_one_seed_share_no_sample(toy_store, toy):
    stream = Stream(toy.System(), toy.grid, batch_size=4, seed=7)  # the store's seed
    assert not torch.isin(stream.batch(0).inputs, toy_store.split("train").load().inputs).any()


@given(num_samples=st.integers(1, 11), batch_size=st.integers(1, 14), seed=st.integers(0, 50))
def test_every_epoch_shows_every_sample_once(toy_store, num_samples, batch_size, seed):
    batch = toy_store.split("train").batch(slice(num_samples))
    epochs = Epochs(batch, batch_size=batch_size, seed=seed)
    size = min(batch_size, num_samples)
    indices = [epochs.index(step) for step in range(-(-4 * num_samples // size))]
    assert {len(index) for index in indices} == {size}
    shown = torch.cat(indices)
    for epoch in range(4):
        once = shown[epoch * num_samples : (epoch + 1) * num_samples]
        assert sorted(once.tolist()) == list(range(num_samples))


@given(steps=st.permutations(range(12)))
def test_any_step_can_be_asked_for_at_any_time(toy_store, steps):
    split = toy_store.split("train")
    in_order = Epochs(split, batch_size=4, seed=1)
    expected = [in_order.index(step) for step in range(12)]
    fresh = Epochs(split, batch_size=4, seed=1)
    assert all(torch.equal(fresh.index(step), expected[step]) for step in steps)


def test_epochs_differ_and_seeds_differ(toy_store):
    split = toy_store.split("train")
    orders = [Epochs(split, batch_size=11, seed=seed).index(step) for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_disk_and_memory_give_the_same_batches(toy_store, toy):
    split = toy_store.split("train")
    disk, memory = Epochs(split, batch_size=4, seed=2), Epochs(split.load(), batch_size=4, seed=2)
    for step in range(8):
        assert toy.same(disk.batch(step), memory.batch(step))
    assert disk.num_samples == memory.num_samples == 11
    assert disk.signature == memory.signature == toy_store.signature
    assert disk.grid == memory.grid == toy_store.grid


def test_an_index_handed_out_is_the_callers_own(toy_store):
    epochs = Epochs(toy_store.split("train"), batch_size=4, seed=0)
    expected = epochs.index(0).clone()
    epochs.index(0).zero_()
    assert torch.equal(epochs.index(0), expected)


def test_samples_of_a_long_run_come_equally_often(toy_store):
    epochs = Epochs(toy_store.split("train"), batch_size=4, seed=0)
    counts = Counter(i for step in range(11 * 5) for i in epochs.index(step).tolist())
    assert set(counts.values()) == {20}


def test_what_cannot_be(toy_store, toy):
    with pytest.raises(ConfigError, match="at least 1"):
        Stream(toy.System(), toy.grid, batch_size=0, seed=0)
    with pytest.raises(ConfigError, match="at least 1"):
        Epochs(toy_store.split("train"), batch_size=0, seed=0)
    with pytest.raises(DataError, match="no samples"):
        Epochs(toy_store.split("train").batch([]), batch_size=1, seed=0)
    with pytest.raises(ConfigError, match="counted from 0"):
        Epochs(toy_store.split("train"), batch_size=1, seed=0).index(-1)


# --- parts ------------------------------------------------------------------------------------------------------------


@given(num_samples=st.integers(0, 40), count=st.integers(1, 9), pieces=st.integers(1, 4))
def test_parts_cover_everything_once_and_evenly(num_samples, count, pieces):
    slices = [part.of(num_samples) for rank in range(count) for part in Part(rank, count).split(pieces)]
    covered = [sample for part in slices for sample in range(num_samples)[part]]
    assert covered == list(range(num_samples))
    lengths = [part.stop - part.start for part in slices]
    assert max(lengths) - min(lengths) <= 1
    assert WHOLE.of(num_samples) == slice(0, num_samples)


@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_the_parts_of_a_stream_together_are_the_batch(toy, blocks, count):
    stream = Stream(toy.System(), toy.grid, batch_size=7, seed=5, blocks=blocks)
    whole, parts = stream.batch(3), [stream.batch(3, Part(number, count)) for number in range(count)]
    assert sum(part.num_samples for part in parts) == whole.num_samples == 7
    start = 0
    for part in parts:
        assert toy.same(part, whole.select(slice(start, start + part.num_samples)))
        start += part.num_samples


def test_a_part_of_a_stream_draws_only_the_blocks_it_needs(toy, monkeypatch):
    drawn = []
    sample = toy.System.sample

    def count(self, num_samples, *args, **kwargs):
        drawn.append(num_samples)
        return sample(self, num_samples, *args, **kwargs)

    monkeypatch.setattr(toy.System, "sample", count)
    Stream(toy.System(), toy.grid, batch_size=8, seed=5, blocks=4).batch(0, Part(1, 2))
    assert drawn == [2, 2]
    Stream(toy.System(), toy.grid, batch_size=8, seed=5).batch(0, Part(1, 2))
    assert drawn == [2, 2, 8], "of one block it draws everything"


def test_blocks_are_checked_and_change_the_samples(toy):
    one, two = (Stream(toy.System(), toy.grid, batch_size=4, seed=5, blocks=blocks) for blocks in (1, 2))
    assert not torch.equal(one.batch(0).inputs, two.batch(0).inputs)
    for blocks in (0, 5):
        with pytest.raises(ConfigError, match=f"in 1 to batch_size = 4 blocks a step; got {blocks}"):
            Stream(toy.System(), toy.grid, batch_size=4, seed=5, blocks=blocks)


def test_the_parts_of_epochs_together_are_the_batch_and_read_no_more(toy_store, toy):
    split = toy_store.split("train")
    for samples in (split, split.load()):
        epochs = Epochs(samples, batch_size=7, seed=2)
        parts = [epochs.batch(1, Part(number, 3)) for number in range(3)]
        whole, start = epochs.batch(1), 0
        assert [part.num_samples for part in parts] == [3, 2, 2]
        for part in parts:
            assert toy.same(part, whole.select(slice(start, start + part.num_samples)))
            start += part.num_samples
