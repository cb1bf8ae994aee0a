"""A split for loaders and training loops of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from neuralop.losses import LpLoss
from neuralop.models import FNO
from torch.utils.data import DataLoader

from foreign_well import write_well_file
from scifm.data.importing import open_data
from scifm.data.tensor_samples import TensorSamples
from scifm.errors import ConfigError
from scifm.fields.batch import Batch


@pytest.fixture
def evolving(tmp_path):
    values = np.arange(3 * 4 * 3 * 5, dtype=np.float32).reshape(3, 4, 3, 5)
    path = write_well_file(
        tmp_path / "a.h5",
        dims={"y": np.arange(3.0), "x": np.arange(5.0)},
        times=np.array([0.0, 1.0, 3.0, 6.0]),
        num_trajectories=3,
        fields={"u": (0, values, "st")},
        scalars={"speed": (np.arange(3.0), "s")},
    )
    return open_data(path)


def test_items_are_the_samples_as_plain_tensors(toy_store):
    split = toy_store.split("train")
    data, whole = TensorSamples(split), split.load()
    assert len(data) == 11
    assert (data.input_channels, data.target_channels) == (("forcing",), ("solution",))
    for place in (0, 5, -1):
        item = data[place]
        assert set(item) == {"inputs", "coefficients", "targets"}
        assert torch.equal(item["inputs"], whole.inputs[place, 0])
        assert torch.equal(item["coefficients"], whole.coefficients[place])
        assert torch.equal(item["targets"], whole.require_targets()[place, 0])
    assert len(list(data)) == 11
    with pytest.raises(IndexError):
        data[11]


def test_coefficients_are_channels_for_neuraloperator(toy_store):
    split = toy_store.split("valid")
    data, whole = TensorSamples(split, form="xy"), split.load()
    assert data.input_channels == ("forcing", "stiffness", "offset")
    item = data[1]
    assert (set(item), item["x"].shape, item["y"].shape) == ({"x", "y"}, (3, 6, 4), (1, 6, 4))
    assert torch.equal(item["x"][0], whole.field("forcing")[1, 0])
    assert torch.equal(item["x"][1:], whole.coefficients[1].view(2, 1, 1).expand(2, 6, 4))
    assert torch.equal(item["y"][0], whole.target("solution")[1, 0])


def test_windows_carry_their_lead_time(evolving):
    split = evolving.split("train", stride=2)
    data = TensorSamples(split)
    assert len(data) == 2
    assert [float(item["lead_time"]) for item in data] == [3.0, 5.0]
    assert float(data[1]["targets"][0, 0, 0] - data[1]["inputs"][0, 0, 0]) == 2 * 15
    assert set(TensorSamples(split, form="xy")[0]) == {"x", "y"}


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_loaders_shuffle_and_stack_in_worker_processes(toy_store, context):
    split = toy_store.split("train")
    split.batch([0])  # a file is open here before workers start
    workers = {"num_workers": 2, "multiprocessing_context": context} if context else {}
    generator = torch.Generator().manual_seed(1)
    loader = DataLoader(TensorSamples(split), batch_size=4, shuffle=True, generator=generator, **workers)
    batches = list(loader)
    assert [len(batch["inputs"]) for batch in batches] == [4, 4, 3]
    seen = torch.cat([batch["coefficients"][:, 0] for batch in batches])
    stored = split.load().coefficients[:, 0]
    assert not torch.equal(seen, stored)
    assert torch.equal(seen.sort().values, stored.sort().values)
    for batch in batches:
        stiffness = batch["coefficients"][:, :1, None, None]
        torch.testing.assert_close(stiffness * batch["targets"], batch["inputs"])


def test_foreign_files_are_read_by_workers_where_they_lie(evolving):
    data = TensorSamples(evolving.split("train"))
    loader = DataLoader(data, batch_size=2, num_workers=1)
    seen = torch.cat([batch["inputs"] for batch in loader])
    assert torch.equal(seen, torch.stack([item["inputs"] for item in data]))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_come_from_loaders_too(toy_store, num_workers):
    split = toy_store.split("train")
    loader = DataLoader(split, batch_size=4, collate_fn=Batch.concatenate, num_workers=num_workers)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert torch.equal(Batch.concatenate(batches).inputs, split.load().inputs)


def test_a_network_of_others_trains_in_a_plain_loop(toy_store):
    torch.manual_seed(0)
    data = TensorSamples(toy_store.split("train"), form="xy")
    network = FNO((2, 2), in_channels=len(data.input_channels), out_channels=1, hidden_channels=4, n_layers=2)
    optimizer, loss = torch.optim.Adam(network.parameters(), 1e-2), LpLoss(d=2)
    batch = next(iter(DataLoader(data, batch_size=11)))
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        value = loss(network(batch["x"]), batch["y"])
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[2] < losses[1] < losses[0]


def test_an_unknown_form_is_refused(toy_store):
    with pytest.raises(ConfigError, match="named, xy"):
        TensorSamples(toy_store.split("train"), form="yx")
