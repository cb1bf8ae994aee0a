"""Coverage, spread and abstention beside their contract: missing points, absent fields, marches; where none applies."""

from __future__ import annotations

from dataclasses import replace

import torch

import exact
import tiny
from scifm.fields.batch import Batch, Signature
from scifm.fields.seeds import generator_for
from scifm.models.bands import calibrate
from scifm.models.fno import FNO, FNOConfig
from scifm.trust import Abstention, Coverage, Spread


def ask(check, operator, batch, origin=None):
    return check(operator, batch, generator=generator_for(0, "test"), origin=origin)


def test_missing_points_count_for_nothing():
    operator, batch = exact.calibrated(), tiny.batch(16)
    whole = ask(Coverage(), operator, batch)
    valid = torch.ones_like(batch.targets, dtype=torch.bool)
    valid[..., 3, 5] = False
    nonsense = replace(batch, targets=torch.where(valid, batch.targets, 1e6), valid_targets=valid)
    holed = ask(Coverage(), operator, nonsense)
    assert whole.statistic is not None
    assert holed.statistic >= whole.statistic, "what is missing was counted as outside"
    assert ask(Coverage(), operator, replace(nonsense, valid_targets=None)).statistic == 0


def test_a_field_that_samples_lack_is_no_miss():
    names = Signature(("f", "g"), (), ("u", "v"))
    draw = torch.Generator().manual_seed(0)
    fields = torch.randn(2, 40, 1, 2, 16, 16, generator=draw) * torch.tensor([1.0, 0.0]).view(2, 1, 1)
    present = torch.tensor([True, False, True, False]).expand(40, -1)
    samples = Batch(names, tiny.GRID, fields[0], torch.zeros(40, 0), fields[1], present=present)
    torch.manual_seed(0)
    operator = FNO(names, FNOConfig(**tiny.NETWORK))
    calibrate(operator, samples.select(slice(0, 20)))
    told = ask(Coverage(level=0.5), operator, samples)
    assert "of 40 fields" in told.evidence, "those that are there"
    assert 0.3 < told.statistic < 0.7


def test_where_none_applies():
    operator, batch = tiny.operator(), tiny.batch(4)
    assert ask(Coverage(), operator, batch).light == "none"
    assert ask(Spread(), operator, batch).light == "none"
    assert "not known" in ask(Abstention(), operator, batch).said
    few = tiny.operator()
    calibrate(few, tiny.batch(4))
    assert "no bands of that level" in ask(Coverage(), few, batch).said


def test_one_network_is_asked_by_its_features_and_marches_are_told_by_step():
    torch.manual_seed(0)
    operator = FNO(exact.BURGERS.signature, FNOConfig(**tiny.NETWORK))
    told = ask(Abstention(), operator, exact.windows(8), origin=exact.of_burgers())
    assert told.statistic is not None
    assert "how far it lies inside the network" in told.evidence
    (panel,) = told.figure.panels
    labels = [line.label for line in panel.series]
    assert labels[0] == "step 1"
    assert labels[-1] == f"the best possible order of {labels[-2]}"
    assert len(labels) == 4
    own, best = panel.series[-2], panel.series[-1]
    assert all(mine >= ideal * (1 - 1e-9) for mine, ideal in zip(own.y, best.y, strict=True))
