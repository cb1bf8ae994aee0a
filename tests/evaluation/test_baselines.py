from __future__ import annotations

import pytest
import torch

from scifm.errors import SignatureError
from scifm.evaluation.evaluate import persistence
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid


def test_persistence_by_hand():
    signature = Signature(("u", "mask", "v"), (), ("v", "u"), evolves=True)
    inputs = torch.ones(2, 1, 3, 4, 4)
    inputs[:, :, 2] = 2.0
    targets = torch.stack([torch.full((2, 1, 4, 4), 4.0), torch.full((2, 1, 4, 4), 1.0)], dim=2)
    scores = persistence(Batch(signature, Grid.square(4), inputs, torch.zeros(2, 0), targets))
    assert scores.channels == ("v", "u")
    assert scores.values["relative_l2"].tolist() == [[[0.5, 0.0]], [[0.5, 0.0]]]


def test_persistence_of_what_does_not_persist():
    batch = Batch(Signature(("f",), (), ("u",)), Grid.square(4), *(torch.ones(1, 1, 1, 4, 4), torch.zeros(1, 0)))
    with pytest.raises(SignatureError, match="were inputs before"):
        persistence(batch)
