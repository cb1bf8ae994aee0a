"""A space–time transformer: the published layout, exact symmetries, fields by name, patches, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import onnxruntime
import pytest
import torch

from scifm.config import build_config
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.axial_transformer import AXIAL_SIZES, AxialTransformer, AxialTransformerConfig
from scifm.models.export import export_operator
from scifm.models.parts.attention import MOST_TOKENS
from scifm.models.parts.axial import AxialBlock, Modulations, _Attention
from scifm.models.parts.native import library
from scifm.models.parts.patches import Tiles, strides_of
from scifm.models.parts.relative import NUM_BUCKETS, axis_bias, buckets, lines_buckets
from scifm.models.parts.stages import mapped
from scifm.models.parts.workspace import Workspace
from scifm.models.surgery import with_channels

SMALL = {"width": 16, "num_heads": 2, "num_blocks": 2, "patch": 4, "condition_width": 8}
SPACES = {1: (24,), 2: (16, 8), 3: (8, 4, 12)}
EVOLVES = Signature(("u", "v", "f"), ("a",), ("u", "v"), 2, evolves=True)
native = pytest.mark.skipif(library() is None, reason="no C compiler")
at_every_width = pytest.mark.usefixtures("lanes")
three = pytest.mark.parametrize("num_axes", [1, 2, 3])


def transformer(signature: Signature = EVOLVES, **settings) -> AxialTransformer:
    torch.manual_seed(0)
    return AxialTransformer(signature, AxialTransformerConfig(**{**SMALL, **settings})).double()


def problems(operator: AxialTransformer, space=(16, 8), *, wraps=True, num=3, **named) -> Batch:
    generator, names = torch.Generator().manual_seed(1), operator.signature
    grid = Grid(space, (1.0,) * len(space), (wraps,) * len(space) if isinstance(wraps, bool) else wraps)
    shape = (num, operator.history, len(names.inputs), *space)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(num, len(names.coefficients), generator=generator, dtype=torch.float64)
    return Batch(names, grid, inputs, coefficients, **named)


def answered(operator: AxialTransformer, batch: Batch) -> torch.Tensor:
    return operator.answers(batch).require_targets()


@pytest.mark.parametrize(("size", "num_params"), [("tiny", 7_285_884)])
def test_the_published_layout_has_the_published_weights(size, num_params):
    names = tuple(f"state_{number}" for number in range(12))
    with torch.device("meta"):
        operator = AxialTransformer(Signature(names, (), names, evolves=True), AxialTransformerConfig.published(size))
    assert operator.num_params == num_params
    assert sum(p.numel() for p in operator.blocks[0].parameters()) + 5 * 2 * 192 == 595_520


def test_sizes_by_name_are_the_published_ones_and_a_smaller_one():
    assert [AXIAL_SIZES[size] for size in ("tiny", "small", "base", "large")] == [
        (192, 3, 12), (384, 6, 12), (768, 12, 12), (1024, 16, 24),
    ]  # fmt: skip
    assert AxialTransformerConfig.of_size("nano").width == 96
    with pytest.raises(ConfigError, match="tiny"):
        AxialTransformerConfig.of_size("tinny")


@three
@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("instance_norm", ["none", "rms", "reversible"])
def test_rolled_by_patches_the_answer_is_rolled(num_axes, history, instance_norm):
    names = replace(EVOLVES, num_spatial_dims=num_axes)
    operator = transformer(names, history=history, instance_norm=instance_norm)
    batch = problems(operator, SPACES[num_axes])
    axes, shifts = tuple(range(-num_axes, 0)), (4, -8, 4)[:num_axes]
    moved = replace(batch, inputs=batch.inputs.roll(shifts, axes))
    answer, other = answered(operator, batch), answered(operator, moved)
    assert float((answer - batch.inputs[:, -1:, :2]).std()) > 0.01
    torch.testing.assert_close(other, answer.roll(shifts, axes), rtol=0, atol=1e-10)


def test_an_odd_number_of_tokens_has_no_seam_either():
    operator = transformer(num_blocks=3)
    batch = problems(operator, (20, 12))
    moved = replace(batch, inputs=batch.inputs.roll((8, 4), (-2, -1)))
    expected = answered(operator, batch).roll((8, 4), (-2, -1))
    torch.testing.assert_close(answered(operator, moved), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("num", [1, 2, 5, 6, 7, 40])
def test_the_shorter_way_round_is_a_function_of_the_difference_alone(num):
    around = buckets(num, torch.device("cpu"), wraps=True)
    for row in range(num):
        assert torch.equal(around[row], around[0].roll(row))
    ahead = buckets(num, torch.device("cpu"), wraps=False)[0]
    assert torch.equal(ahead, ahead.sort().values)  # farther is never nearer
    assert len(ahead.unique()) >= min(num, 9)
    assert int(buckets(300, torch.device("cpu"), wraps=False).max()) == NUM_BUCKETS - 1


def test_the_two_sides_of_a_token_are_told_apart():
    found = buckets(6, torch.device("cpu"), wraps=False)
    assert not set(found.triu(1).unique().tolist()) - {0} & set(found.tril(-1).unique().tolist()) - {0}
    assert axis_bias(torch.randn(NUM_BUCKETS, 3), 6, wraps=True).shape == (3, 6, 6)


@three
@pytest.mark.parametrize("wraps", [True, False])
def test_all_lines_at_once_are_axis_by_axis(num_axes, wraps):
    torch.manual_seed(0)
    attention = _Attention(8, 2, plain=True).double()
    torch.nn.init.normal_(attention.positions)
    x = torch.randn(2, 1, *(3, 4, 2)[:num_axes], 8, dtype=torch.float64)
    heads = [part.squeeze(-3) for part in attention.all(x.flatten(0, 1)).unflatten(-1, (3, 2, 4)).split(1, dim=-3)]
    ends = (wraps,) * num_axes
    torch.testing.assert_close(attention._at_once(*heads, ends), attention._axis_by_axis(*heads, ends))


def test_attention_along_one_axis_is_what_torch_makes_of_it():
    torch.manual_seed(0)
    attention = _Attention(8, 2, plain=False).double()
    torch.nn.init.normal_(attention.positions)
    queries, keys, values = torch.randn(3, 5, 7, 2, 4, dtype=torch.float64)
    right = torch.nn.functional.scaled_dot_product_attention(
        *(part.transpose(1, 2) for part in (queries, keys, values)),
        attn_mask=axis_bias(attention.positions, 7, wraps=False),
    )
    torch.testing.assert_close(attention._at_once(queries, keys, values, (False,)), right.transpose(1, 2))


def test_a_wall_and_a_seam_are_not_the_same():
    operator = transformer()
    around, between = (answered(operator, problems(operator, wraps=wraps)) for wraps in (True, False))
    assert float((around - between).abs().max()) > 1e-4


@three
@pytest.mark.parametrize("wraps", [True, False])
def test_any_grid_is_answered_whole(num_axes, wraps):
    operator = transformer(replace(EVOLVES, num_spatial_dims=num_axes), patch=8)
    for space in ((13, 9, 8)[:num_axes], (2,) * num_axes, (16, 24, 8)[:num_axes]):
        batch = problems(operator, space, wraps=wraps, num=1)
        assert operator(batch).require_targets().shape == (1, 1, 2, *space)


def test_between_patches_and_the_grid_nothing_is_lost_within_the_band():
    grid = Grid((13, 9), (1.0, 1.0), (True, False))
    tiles = Tiles(grid, 4)
    fields = torch.randn(2, 13, 9, dtype=torch.float64)
    there = tiles.put(fields)
    assert there.shape == (2, 16, 12)
    assert torch.equal(there[..., 9:], there[..., 8:9].expand(-1, -1, 3))
    torch.testing.assert_close(tiles.take(there), fields)


@pytest.mark.parametrize(("patch", "strides"), [(1, (1,)), (2, (2,)), (4, (2, 2)), (8, (4, 2)), (16, (4, 2, 2))])
def test_a_patch_is_its_strides(patch, strides):
    assert strides_of(patch) == strides
    operator = transformer(patch=patch)
    assert answered(operator, problems(operator, (16, 16))).shape == (3, 1, 2, 16, 16)


def test_fields_in_another_order_are_answered_in_that_order():
    operator = transformer()
    batch = problems(operator)
    other = Batch(
        Signature(("f", "v", "u"), ("a",), ("v", "u"), evolves=True),
        batch.grid, batch.inputs[:, :, [2, 1, 0]], batch.coefficients,
    )  # fmt: skip
    torch.testing.assert_close(answered(operator, other), answered(operator, batch), rtol=0, atol=1e-12)
    turned = AxialTransformer(other.signature, operator.config).double()
    turned.load_state_dict(operator.state_dict())
    with torch.no_grad():
        turned.embedding.weight[:, :3] = operator.embedding.weight[:, [2, 1, 0]]
        turned.last.weight.copy_(operator.last.weight[[1, 0]])
        turned.last.bias.copy_(operator.last.bias[[1, 0]])
    expected = answered(operator, batch)[:, :, [1, 0]]
    torch.testing.assert_close(answered(turned, other), expected, rtol=0, atol=1e-12)


def test_a_larger_vocabulary_changes_no_answer():
    """The scale is that of the fields a sample has: whether others are known enters nowhere."""
    operator = transformer()
    batch = problems(operator)
    more = Signature(("p", "u", "q", "v", "f"), ("b", "a"), ("u", "q", "v"), evolves=True)
    grown, became = with_channels(
        operator, more, batch.grid, AxialTransformer(more).normalization, generator=torch.Generator().manual_seed(3)
    )
    assert [entry["name"] for entry in became if entry["became"] == "added"] == ["p", "q", "b", "q"]
    grown.domain = replace(grown.domain, forms=(operator.signature.fields, more.fields))
    answer = grown.double().answers(batch).require_targets()[:, :, [0, 2]]
    torch.testing.assert_close(answer, answered(operator, batch), rtol=0, atol=1e-12)


def test_sizes_and_shifts_of_a_field_are_followed_where_that_is_wanted():
    operator = transformer(replace(EVOLVES, inputs=("u", "v")), history=3, instance_norm="reversible")
    batch = problems(operator)
    size, shift = (
        torch.tensor(values, dtype=torch.float64).view(1, 1, 2, 1, 1) for values in ((3.0, 0.2), (5.0, -1.0))
    )
    other = replace(batch, inputs=batch.inputs * size + shift)
    expected = answered(operator, batch) * size + shift
    torch.testing.assert_close(answered(operator, other), expected, rtol=0, atol=1e-10)


def test_of_root_mean_squares_answers_follow_the_change_between_frames():
    operator = transformer(replace(EVOLVES, inputs=("u", "v")), history=2, instance_norm="rms")
    batch = problems(operator)
    large, larger = (answered(operator, replace(batch, inputs=size * batch.inputs)) for size in (1e4, 1e7))
    torch.testing.assert_close(larger, 1e3 * large)
    still = batch.inputs[:, :1].expand(-1, 2, -1, -1, -1)
    moved = answered(operator, replace(batch, inputs=still)) - still[:, -1:]
    assert 0 < float(moved.abs().max()) < 0.1  # what rests may still begin to move


@pytest.mark.parametrize("instance_norm", ["rms", "reversible"])
def test_a_field_that_is_not_there_has_no_size_and_leaves_every_gradient_finite(instance_norm):
    operator = transformer(history=2, instance_norm=instance_norm)
    batch = problems(operator)
    nothing = batch.inputs.clone()
    nothing[:, :, 1] = 0
    nothing.requires_grad_()
    there = torch.tensor([True, False, True, True]).expand(3, -1)
    answer = operator(replace(batch, inputs=nothing, present=there)).require_targets()
    answer[:, :, 0].square().sum().backward()
    assert nothing.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in operator.parameters())


def test_earlier_frames_matter_and_their_order_too():
    operator = transformer(history=3)
    batch = problems(operator)
    answer = answered(operator, batch)
    other = replace(batch, inputs=batch.inputs[:, [1, 0, 2]])
    assert float((answered(operator, other) - answer).abs().max()) > 1e-6
    with pytest.raises(SignatureError, match="takes 3 input frames; got 1"):
        operator(replace(batch, inputs=batch.inputs[:, -1:]))


def test_patches_of_more_points_are_the_same_patches():
    operator = transformer(tokens=4, num_blocks=1)
    x, y = torch.meshgrid(*(torch.arange(64, dtype=torch.float64) / 64,) * 2, indexing="ij")
    field = torch.cos(2 * torch.pi * x) + torch.sin(2 * torch.pi * (x - y))
    fine = problems(operator, (64, 64), num=1)
    fine = replace(fine, inputs=field.expand(1, 1, 3, 64, 64).clone())
    coarse = replace(fine, grid=Grid.square(32), inputs=fine.inputs[..., ::2, ::2])
    answers = [operator.answers(part).require_targets() for part in (fine, coarse)]
    changes = [answer[0, 0] - batch.inputs[0, 0, :2] for answer, batch in zip(answers, (fine, coarse), strict=True)]
    tokens = [change.unflatten(-1, (4, -1)).unflatten(-3, (4, -1)).mean((-1, -3)) for change in changes]
    assert float((tokens[0] - tokens[1]).norm()) < 0.1 * float(tokens[1].norm())


def test_derivatives_of_every_order():
    operator = transformer(num_blocks=1, history=2).differentiable()
    assert operator.config.plain
    batch = problems(operator, (4, 8), num=1)

    def energy(inputs: torch.Tensor) -> torch.Tensor:
        return operator(replace(batch, inputs=inputs)).require_targets().square().sum()

    assert torch.autograd.gradgradcheck(energy, (batch.inputs.clone().requires_grad_(),), nondet_tol=1e-10)


def test_parts_that_train():
    operator = transformer()
    groups = operator.groups()
    assert sum(len(part) for part in groups.values()) == len(list(operator.parameters()))
    assert {id(p) for p in groups["projection"]} == {id(operator.last.weight), id(operator.last.bias)}


def test_what_is_computed_again_is_the_same():
    operator = transformer(history=2)
    batch = problems(operator)
    slopes = []
    for again in (False, True):
        operator.recompute = again
        operator.zero_grad()
        operator.train()(batch).require_targets().square().sum().backward()
        slopes.append([p.grad.clone() for p in operator.parameters()])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"width": 20, "num_heads": 3}, "multiple of num_heads"),
        ({"patch": 12}, "power of two"),
        ({"instance_norm": "revin"}, "rms"),
        ({"num_heads": 0}, "num_heads"),
    ],
)
def test_settings_that_do_not_fit_are_told(settings, told):
    with pytest.raises(ConfigError, match=told):
        build_config(AxialTransformerConfig, settings, source="model.network")


def gradients(module: torch.nn.Module, answer, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return an answer and every gradient of it by name; the gradient that comes is the same in every precision."""
    given = [part.clone().requires_grad_() for part in inputs]
    found = answer(*given)
    above = torch.randn(found.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(found)
    found.backward(above)
    of_inputs = {f"input {place}": part.grad for place, part in enumerate(given)}
    return {"answer": found.detach(), **of_inputs, **{name: p.grad for name, p in module.named_parameters()}}


def assert_same_to_float32(found: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    for name, value in right.items():
        assert found[name].dtype == torch.float32
        error = float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-2))  # some are zero
        assert error < 1e-5, (name, error)


def block_of(dtype: torch.dtype, *, plain: bool, seed: int = 2, **settings) -> AxialBlock:
    block = AxialBlock(layer_scale=0.5, plain=plain, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in block.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return block.to(dtype)


@native
@at_every_width
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("width", "num_heads", "space", "time", "last", "batch"),
    [
        (16, 2, (4, 4), 1, False, 3),
        (192, 3, (4, 4), 1, False, 8),
        (20, 1, (3, 5), 3, False, 2),
        (24, 3, (7,), 2, True, 5),
        (36, 3, (2, 3, 4), 1, False, 2),
        (64, 2, (16, 16), 2, False, 1),
        (40, 1, (5, 17), 20, True, 1),
        (4, 1, (1,), 1, False, 1),
    ],
)
def test_a_native_block_is_what_torch_makes_of_it(width, num_heads, space, time, last, batch, shared, threads):
    generator = torch.Generator().manual_seed(4)
    settings = {"channels": width, "num_heads": num_heads, "sees_time": time > 1, "last": last}
    x = torch.randn(batch, time, *space, width, generator=generator)
    norms = AxialBlock.num_norms(sees_time=time > 1) * width
    told = torch.randn(1 if shared else batch, 2 * norms, generator=generator)
    wraps = tuple(axis % 2 == 0 for axis in range(len(space)))
    ours, right = block_of(torch.float32, plain=False, **settings), block_of(torch.float64, plain=True, **settings)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert ours._native(x) is not None
        found = gradients(ours, lambda x, told: ours(x, wraps, told), x, told)
    finally:
        torch.set_num_threads(before)
    assert_same_to_float32(found, gradients(right, lambda x, told: right(x, wraps, told), x.double(), told.double()))


@native
@at_every_width
def test_what_native_blocks_are_not_for_goes_through_torch():
    settings = {"channels": 8, "num_heads": 2, "sees_time": False, "last": False}
    block = block_of(torch.float32, plain=False, **settings)
    few, many = torch.zeros(1, 1, MOST_TOKENS, 8), torch.zeros(1, 1, MOST_TOKENS + 1, 8)
    assert block._native(few) is not None
    assert block._native(many) is None
    assert block._native(few.double()) is None
    assert block_of(torch.float32, plain=True, **settings)._native(few) is None
    with torch.autocast("cpu"):
        assert block._native(few) is None


@native
@at_every_width
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_number_is_not_hidden(value):
    block = block_of(torch.float32, plain=False, channels=8, num_heads=2, sees_time=False, last=False)
    x, told = torch.randn(2, 1, 4, 4, 8), torch.ones(2, 48)
    x[0, 0, 1, 1, 3] = value
    answer = block(x, (True, True), told)
    assert answer[0, 0, 1].isnan().any(-1).all()  # all on its lines hear it
    assert answer[0, 0, :, 1].isnan().any(-1).all()
    assert answer[1].isfinite().all()


@native
@at_every_width
@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize(
    ("batch", "tokens", "num_in", "num_out"), [(3, (5, 7), 9, 21), (1, (300,), 64, 48), (2, (1,), 1, 1)]
)
def test_a_native_stage_is_what_torch_makes_of_it(batch, tokens, num_in, num_out, active):
    generator = torch.Generator().manual_seed(6)
    told = (batch if active else 1, num_out)
    shapes = ((batch, *tokens, num_in), (num_in, num_out), told, told)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    nothing = torch.nn.Module()
    workspaces = (Workspace(), None)
    ours, right = (
        gradients(nothing, lambda *given, w=w: mapped(*given, active=active, workspace=w), *parts)
        for w, parts in zip(workspaces, (inputs, [part.double() for part in inputs]), strict=True)
    )
    assert_same_to_float32(ours, right)


@pytest.mark.parametrize("condition_width", [0, 5])
def test_scales_and_shifts_come_part_by_part(condition_width):
    torch.manual_seed(0)
    ours, right = (Modulations([3, 4], condition_width, workspace=w).double() for w in (Workspace(), None))
    right.load_state_dict(ours.state_dict())
    if not condition_width:
        parts = ours(None)
        assert [part.tolist() for part in parts] == [[[1.0] * n + [0.0] * n] for n in (3, 4)]
        return
    condition = torch.randn(2, 5, dtype=torch.float64)
    one, other = (gradients(part, lambda c, part=part: torch.cat(part(c), 1), condition) for part in (ours, right))
    for name, value in other.items():
        torch.testing.assert_close(one[name], value)


def test_buckets_of_lines_are_those_of_each_axis():
    found = lines_buckets((2, 3), (True, False))
    assert found.dtype == torch.int32
    along = buckets(3, torch.device("cpu"), wraps=False)
    for row in range(2):
        here = slice(3 * row, 3 * row + 3)
        assert torch.equal(found[1, here, here], along.T.int())  # keys before queries
    assert set(found[1, :3, 3:].flatten().tolist()) == {-1}
    assert int((found[0] >= 0).sum()) == 12


@native
@at_every_width
@pytest.mark.parametrize("history", [1, 3])
def test_a_whole_native_network_is_what_torch_makes_of_it(history):
    operator = transformer(width=32, patch=8, history=history).float()
    right = transformer(width=32, patch=8, history=history, plain=True)
    right.load_state_dict(operator.state_dict())
    batch = problems(operator, (32, 24), wraps=(True, False))
    single = replace(batch, inputs=batch.inputs.float(), coefficients=batch.coefficients.float())
    pairs = ((operator, single), (right, batch))
    found, expected = (
        gradients(one, lambda one=one, given=given: one(given).require_targets()) for one, given in pairs
    )
    assert_same_to_float32(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("wraps", [True, False])
def test_a_file_of_it_answers_on_grids_of_any_number_of_points(wraps, tmp_path):
    operator = transformer(Signature(("f",), ("a",), ("u",)), num_blocks=1).float()
    grid = Grid((16, 16), (1.0, 1.0), (wraps, wraps))
    (file,) = export_operator(operator, tmp_path, to="onnx", grid=grid)
    session = onnxruntime.InferenceSession(file.path)
    for space in ((16, 16), (24, 13), (8, 20)):
        batch = problems(operator, space, wraps=wraps).to(dtype=torch.float32)
        given = {"inputs": batch.inputs[:, 0].numpy(), "coefficients": batch.coefficients.numpy()}
        found = torch.from_numpy(session.run(None, given)[0])
        torch.testing.assert_close(found, operator.answers(batch).require_targets()[:, 0], rtol=0, atol=1e-5)
