"""Missing points: what a batch says of them, and that nothing that stands there counts anywhere."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scifm.data.normalize import fit_normalization
from scifm.data.statistics import summarize
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain
from scifm.fields.gaps import Gaps, require_whole
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.norms import relative_l2, sizes_of, typical_sizes, valid_share
from scifm.fields.seeds import generator_for

GRID = Grid((6, 4), (1.0, 1.0), (False, True))
NAMES = Signature(("sst", "depth"), (), ("sst",), evolves=True)


def drawn(*shape):
    return torch.randn(shape, generator=generator_for(0, "gaps", *shape), dtype=torch.float64)


def holes(*shape, seed=0):
    return torch.rand(shape, generator=generator_for(seed, "holes", *shape)) > 0.3


def masked(num_samples=5, number=0.0):
    """Return samples with missing points, at all of which stands `number`."""
    inputs, targets = 3 + drawn(num_samples, 1, 2, 6, 4), 3 + drawn(num_samples, 1, 1, 6, 4)
    known, valid = holes(num_samples, 1, 2, 6, 4), holes(num_samples, 1, 1, 6, 4, seed=1)
    known[..., :2, :2], valid[..., :2, :2] = False, False  # land
    inputs, targets = torch.where(known, inputs, number), torch.where(valid, targets, number)
    lead = torch.ones(num_samples, 1, dtype=torch.float64)
    return Batch(
        NAMES, GRID, inputs, drawn(num_samples, 0), targets, lead_time=lead, valid_inputs=known, valid_targets=valid
    )


def test_a_mask_that_hides_nothing_is_none():
    whole = replace(masked(), valid_inputs=torch.ones(5, 1, 2, 6, 4, dtype=torch.bool))
    assert whole.valid_inputs is None
    assert whole.gaps == ("sst",)
    assert whole.valid("depth") is None
    assert whole.valid("sst") is None  # as an input
    assert not whole.valid_target("sst").all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"valid_inputs": torch.ones(5, 1, 1, 6, 4, dtype=torch.bool)},
            r"valid_inputs must be bool of shape \(5, 1, 2",
        ),
        ({"valid_targets": torch.ones(5, 1, 1, 6, 4)}, "valid_targets must be bool"),
        ({"targets": None}, "valid_targets must be None, as there are no targets"),
    ],
)
def test_masks_that_do_not_fit_are_refused(change, said):
    with pytest.raises(SignatureError, match=said):
        replace(masked(), **change)


def test_masks_go_where_samples_go():
    batch = masked()
    part = batch.select([3, 1])
    assert torch.equal(part.valid_targets, batch.valid_targets[[3, 1]])
    bare = replace(batch, valid_inputs=None, valid_targets=None)
    both = Batch.concatenate([bare, batch])
    assert both.valid_targets[:5].all()
    assert torch.equal(both.valid_inputs[5:], batch.valid_inputs)
    wider = Signature(("depth", "wind", "sst"), (), ("sst", "ice"), evolves=True)
    aligned = batch.aligned(wider)
    assert torch.equal(aligned.valid_inputs[:, :, 2], batch.valid_inputs[:, :, 0])
    assert not aligned.valid_targets[:, :, 1].any()
    assert aligned.counted()[0, 0].tolist() == [True, False]
    again = aligned.without_absent(NAMES)
    assert torch.equal(again.valid_targets, batch.valid_targets)
    assert batch.with_targets(batch.targets).valid_targets is None


def test_a_frame_without_a_point_does_not_count():
    batch = masked()
    valid = batch.valid_targets.clone()
    valid[2] = False
    assert replace(batch, valid_targets=valid).counted().flatten().tolist() == [True, True, False, True, True]


def test_norms_count_the_points_that_are_there():
    """On a line with walls at its ends, which count half: 1, 2, 2 and a missing 100."""
    line = Grid((4,), (3.0,), (False,))
    field = torch.tensor([1.0, 2.0, 2.0, 100.0]).view(1, 1, 1, 4)
    valid = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    assert sizes_of(field, line, valid=valid).item() == pytest.approx(math.sqrt(0.5 + 4 + 4))
    assert valid_share(valid, line, field).item() == pytest.approx(2.5 / 3)
    assert typical_sizes(field, line, valid=valid).item() == pytest.approx(math.sqrt(8.5 / (2.5 / 3)))
    guess = torch.tensor([2.0, 2.0, 2.0, 7.0]).view(1, 1, 1, 4)
    assert relative_l2(guess, field, line, valid=valid).item() == pytest.approx(math.sqrt(0.5 / 8.5))
    nothing = torch.zeros_like(valid)
    assert relative_l2(guess, field, line, valid=nothing).isnan().all()
    assert relative_l2(guess, field, line, valid=nothing, present=nothing.any(-1)).item() == 0


def test_a_field_with_few_points_does_not_vanish():
    """A target that is there at one point of 24 is as large as its channel is: per point."""
    field = torch.full((1, 1, 1, 6, 4), 0.03)
    one = torch.zeros_like(field, dtype=torch.bool)
    one[..., 3, 3] = True
    typical = typical_sizes(torch.ones_like(field), GRID)
    whole = sizes_of(field, GRID, typical, vanishes=0.01)
    assert sizes_of(field, GRID, typical, vanishes=0.01, valid=one).item() == pytest.approx(0.03)
    assert whole.item() == pytest.approx(0.03 * math.sqrt(20))


@pytest.mark.parametrize("scaled", [False, True])
def test_numbers_at_missing_points_change_no_normalization_and_no_statistic(scaled):
    scalings = (Homogeneity((("sst", 1), ("depth", 0)), ("sst",), "rms"),) if scaled else ()
    found = []
    for number in (0.0, 1e9, -7.0):
        batch = masked(number=number)
        normalization = fit_normalization(batch, scalings)
        encoded = normalization.encode(batch)
        assert (encoded.inputs[~batch.valid_inputs] == 0).all()
        domain = Domain.of(batch, normalization)
        offset = None if encoded.output_offset is None else encoded.output_offset.tolist()
        found.append((normalization, encoded.inputs.tolist(), offset, domain, summarize([batch])))
    assert found[0] == found[1] == found[2]


def test_normalization_is_that_of_the_points_that_are_there():
    batch = masked()
    normalization = fit_normalization(batch)
    there = batch.inputs[:, :, 0][batch.valid_inputs[:, :, 0]]
    assert normalization.input_shift[0] == pytest.approx(float(there.mean()))
    assert normalization.input_scale[0] == pytest.approx(float(there.std(correction=0)))
    both = batch.valid_targets[:, 0, 0] & batch.valid_inputs[:, 0, 0]
    change = (batch.targets[:, 0, 0] - batch.inputs[:, 0, 0])[both]
    assert normalization.output_scale[0] == pytest.approx(float(change.square().mean().sqrt()))
    statistics = summarize([batch]).fields["sst"]
    assert (statistics.mean, statistics.max) == (pytest.approx(float(there.mean())), pytest.approx(float(there.max())))


def test_what_training_samples_say_of_an_answer():
    """Land is missing in every sample and frame; clouds hide inputs and not what comes after."""
    batch = masked(40)
    gaps = Gaps.of(batch)
    assert gaps.fields == ("sst", "depth")
    assert gaps.hidden_by == {}
    assert torch.equal(gaps.points("sst"), ~batch.valid_targets.flatten(0, 2).any(0))
    assert gaps.points("sst").sum() == 4
    assert Gaps.from_dict(gaps.to_dict()) == gaps
    answered = gaps.answered(batch)
    assert torch.equal(answered, ~gaps.points("sst").expand(40, 1, 1, 6, 4))
    elsewhere = replace(batch, grid=Grid((6, 4), (1.0, 1.0), True), valid_inputs=None)
    assert torch.equal(gaps.answered(elsewhere), answered)
    assert torch.equal(gaps.renamed(str.upper).points("SST"), gaps.points("sst"))


def test_an_obstacle_that_is_elsewhere_in_every_sample_hides_the_answer():
    batch = masked(8)
    obstacle = holes(8, 1, 1, 6, 4, seed=3)
    batch = replace(batch, valid_inputs=obstacle.expand(8, 1, 2, 6, 4).clone(), valid_targets=obstacle.clone())
    gaps = Gaps.of(batch)
    assert gaps.hidden_by == {"sst": ("sst", "depth")}
    assert torch.equal(gaps.answered(batch), obstacle)
    finer = Grid((12, 4), (1.0, 1.0), (False, True))
    twice = {name: getattr(batch, name).repeat_interleave(2, dim=3) for name in ("inputs", "targets")}
    twice |= {name: getattr(batch, name).repeat_interleave(2, dim=3) for name in ("valid_inputs", "valid_targets")}
    assert torch.equal(gaps.answered(replace(batch, grid=finer, **twice)), obstacle.repeat_interleave(2, dim=3))


def test_samples_without_gaps_say_nothing():
    whole = replace(masked(), valid_inputs=None, valid_targets=None)
    assert not Gaps.of(whole)
    assert Gaps.of(whole).answered(masked()) is None


def test_a_mask_that_was_tampered_with_is_refused():
    gaps = replace(Gaps.of(masked(40)), never={"sst": "no mask"})
    with pytest.raises(ConfigError, match=r"gaps.never.sst is no mask of \(6, 4\) points"):
        gaps.points("sst")


def test_missing_points_that_training_did_not_know_lie_outside():
    batch, whole = masked(), replace(masked(), valid_inputs=None, valid_targets=None)
    normalization = fit_normalization(whole)
    told = Domain.of(whole, normalization).outside(batch, normalization)
    assert "points of sst, depth are missing; in training none were" in told
    assert Domain.of(batch, normalization).outside(batch, normalization) == []
    assert ("missing points in", "sst, depth") in Domain.of(batch, normalization).told()


def test_who_cannot_leave_points_out_says_so():
    require_whole((), "A study counts every point", "Fill them.")
    with pytest.raises(ConfigError, match=r"A study counts every point, and points of sst are missing .* Fill them\."):
        require_whole(("sst",), "A study counts every point", "Fill them.")
