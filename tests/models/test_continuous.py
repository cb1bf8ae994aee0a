"""A learned vector field: exact in its scalings, one of the state alone, in other steps, with weights along the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import exact
import tiny
from scifm.config import build_config
from scifm.data.normalize import fit_normalization
from scifm.errors import ConfigError, OutsideWarning, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.models.architecture import Stepped
from scifm.models.continuous import Continuous, ContinuousConfig
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.export import export_operator
from scifm.models.fno import FNO, FNOConfig
from scifm.models.registry import load_operator, save_operator
from scifm.models.surgery import with_channels
from scifm.systems.burgers import Burgers
from scifm.training.pretrain import pretrain

SMALL = {"width": 4, "modes": 3, "num_layers": 2, "projection_width": 8, "latent_points": 8}
FORCED = Signature(("height", "ground", "speed"), ("drag",), ("speed", "height"), 1, evolves=True)
WALLS = Grid((12,), (1.0,), (False,))
ODD = Normalization(
    (), (), (0.5, 0.0, -1.0), (2.0, 3.0, 0.5), (0.1,), (2.0,), (0.2, -0.3), (0.4, 0.7), "constant", lead_time_scale=0.25
)
"""Shifts and scales of all kinds."""


def forced(grid: Grid = WALLS, **settings: Any) -> Continuous:
    """Return an operator of what evolves with an input that does not, and outputs in another order than inputs."""
    torch.manual_seed(0)
    return Continuous(FORCED, ContinuousConfig(**{**SMALL, **settings}).on(grid), normalization=ODD).double()


def states(grid: Grid = WALLS, *, lead: float = 0.5, num: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(num, 1, 3, *grid.num_points, generator=generator, dtype=torch.float64)
    drag = torch.rand(num, 1, generator=generator, dtype=torch.float64)
    return Batch(FORCED, grid, inputs, drag, lead_time=torch.full((num, 1), lead, dtype=torch.float64))


def burgers(num: int = 4) -> Batch:
    return exact.windows(num).to(dtype=torch.float64)


def of_burgers(batch: Batch, **settings: Any) -> Continuous:
    """Return an operator of Burgers' equation with the normalization that its exact scaling gives."""
    torch.manual_seed(0)
    normalization = fit_normalization(batch, Burgers().homogeneities)
    return Continuous(batch.signature, ContinuousConfig(**{**SMALL, **settings}), normalization=normalization).double()


def answered(operator: Continuous, batch: Batch) -> Tensor:
    return operator(batch).require_targets()


# --- a field of the physical state ------------------------------------------------------------------------------------


def test_a_step_of_euler_is_the_tendency_times_the_time():
    operator, batch = forced(scheme="euler"), states()
    start = batch.inputs[:, :, [2, 0]]
    torch.testing.assert_close(answered(operator, batch), start + 0.5 * operator.tendency(batch))


@pytest.mark.parametrize("scheme", ["euler", "midpoint", "rk4"])
@pytest.mark.parametrize("homogeneous", [True, False])
def test_two_halves_of_a_time_make_the_whole(scheme, homogeneous):
    """Also where every sample is brought to a size of its own, which is another one half way."""
    batch = burgers() if homogeneous else states()
    operator = of_burgers(batch, scheme=scheme) if homogeneous else forced(scheme=scheme)
    times = batch.lead_time
    half = replace(batch, targets=None, lead_time=times / 2)
    middle = answered(operator, half)
    inputs = middle if homogeneous else torch.stack([middle[:, :, 1], batch.inputs[:, :, 1], middle[:, :, 0]], dim=2)
    torch.testing.assert_close(
        answered(operator, replace(half, inputs=inputs)), answered(operator.stepped(num_steps=2), batch)
    )


def test_an_exact_scaling_stays_exact():
    """Burgers: u → 3u, ν → 3ν, t → t/3 is the same problem, whatever the weights are."""
    batch = burgers()
    operator = of_burgers(batch, num_steps=3)
    faster = replace(
        batch, inputs=3 * batch.inputs, coefficients=3 * batch.coefficients, lead_time=batch.lead_time / 3, targets=None
    )
    torch.testing.assert_close(answered(operator, faster), 3 * answered(operator, batch), rtol=1e-10, atol=1e-10)


def test_more_steps_converge_to_the_flow_at_the_order_of_the_scheme():
    batch = states(lead=0.3)
    flow = answered(forced(num_steps=64), batch).detach()
    for scheme, order in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
        errors = [float((answered(forced(scheme=scheme, num_steps=n), batch).detach() - flow).norm()) for n in (4, 8)]
        assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


def test_what_is_no_state_stays_and_every_sample_has_its_own_time():
    operator, batch = forced(num_steps=2), states()
    times = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    together = answered(operator, replace(batch, lead_time=times))
    for place in range(3):
        one = replace(batch, lead_time=times).select([place])
        torch.testing.assert_close(answered(operator, one), together[place : place + 1])
    assert (together - answered(operator, batch))[1].abs().max() < 1e-12
    assert (together - answered(operator, batch))[0].abs().max() > 1e-3
    marched = operator(replace(batch, targets=None, lead_time=torch.tensor([[0.1, 0.2]] * 3, dtype=torch.float64)))
    assert marched.require_targets().shape == (3, 2, 2, 12)


def test_a_point_that_is_missing_starts_from_the_mean_and_its_number_plays_no_part():
    operator, batch = forced(), states()
    valid = torch.ones_like(batch.inputs, dtype=torch.bool)
    valid[:, :, 0, 4] = valid[:, :, 1, 7] = False
    answers = []
    for value in (0.0, 7.0):
        inputs = torch.where(valid, batch.inputs, value)
        answers.append(answered(operator, replace(batch, inputs=inputs, valid_inputs=valid)))
    assert torch.equal(*answers)
    still = operator.stepped(scheme="euler")
    start = torch.where(valid, batch.inputs, 0.5)[:, :, 0]  # that is where `ODD` has its height
    moved = answered(still, replace(batch, inputs=torch.where(valid, batch.inputs, 3.0), valid_inputs=valid))[:, :, 1]
    assert (moved - start)[..., 4].abs().max() < 2


def test_the_plain_engine_answers_the_same_without_and_with_gradients():
    operator, batch = (
        forced(Grid((64,), (1.0,), (True,)), latent_points=0, width=32),
        states(Grid.square(64, num_spatial_dims=1)),
    )
    torch.testing.assert_close(operator.differentiable()(batch).targets, operator(batch).targets)
    single = operator.float()
    batch = batch.to(dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(single(batch).targets, single(batch).targets)
        quiet = single(batch).require_targets()
    torch.testing.assert_close(quiet, single(batch).targets)


# --- other steps, times and pieces ------------------------------------------------------------------------------------


def test_it_shares_its_weights_with_what_goes_by_other_steps():
    operator = forced()
    other = operator.stepped(scheme="euler", num_steps=7)
    assert isinstance(operator, Stepped)
    assert not isinstance(FNO(FORCED, FNOConfig(**SMALL)), Stepped)
    assert (other.config.scheme, other.num_steps) == ("euler", 7)
    assert all(a is b for a, b in zip(operator.parameters(), other.parameters(), strict=True))
    for wrong in ({"scheme": "heun"}, {"num_steps": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            operator.stepped(**wrong)


def test_it_answers_at_other_times_than_it_was_trained_at_and_says_so():
    operator, batch = forced(), states(lead=0.2)
    operator.domain = Domain(lead_times=(0.5, 0.5))
    assert operator.outside(batch) == ["a step is 0.2 long; training had 0.5"]
    with pytest.warns(OutsideWarning, match="a step is 0.2 long"):
        operator.predict(batch)
    assert operator.outside(states()) == []
    changing = forced(num_steps=2, basis=2)
    changing.domain = operator.domain
    with pytest.raises(SignatureError, match=r"trained at a lead time of 0\.5"):
        changing(batch)


@pytest.mark.parametrize("scheme", ["euler", "midpoint", "rk4"])
@pytest.mark.parametrize("steady", [True, False])
def test_twice_as_many_pieces_answer_the_same(scheme, steady):
    settings: dict[str, Any] = {**SMALL, "scheme": scheme, "num_steps": 6, "basis": 3}
    torch.manual_seed(0)
    if steady:
        batch = tiny.batch(3, dtype=torch.float64)
        operator = Continuous(batch.signature, ContinuousConfig(**settings)).double()
    else:
        batch, operator = states(), forced(**settings)
    finer = operator.refined()
    assert (finer.config.basis, finer.num_params > operator.num_params) == (6, True)
    assert torch.equal(answered(finer, batch), answered(operator, batch))
    assert not {p.data_ptr() for p in finer.parameters()} & {p.data_ptr() for p in operator.parameters()}
    with pytest.raises(ConfigError, match=r"basis must be at most num_steps \(6\)"):
        finer.refined()
    with torch.no_grad():
        next(iter(finer.layers[1].parameters())).add_(1)
    assert not torch.equal(answered(finer, batch), answered(operator, batch)), "the new piece plays no part"


def test_nodes_with_lines_between_them_are_refined_halfway():
    operator, batch = forced(num_steps=5, basis=3, between="linear"), states()
    finer = operator.refined()
    assert finer.config.basis == 5
    torch.testing.assert_close(answered(finer, batch), answered(operator, batch), rtol=1e-12, atol=1e-12)
    first = operator.stepped(num_steps=4)
    assert not torch.allclose(answered(first, batch), answered(operator, batch)), "weights do not change on the way"


# --- training ---------------------------------------------------------------------------------------------------------


def grads(operator: Continuous, batch: Batch) -> Tensor:
    operator.zero_grad()
    answered(operator, batch).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in operator.parameters()])


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("steady", [True, False])
def test_gradients_of_three_kinds(steady, recompute):
    def found(gradient: str, **settings: Any) -> Tensor:
        torch.manual_seed(0)
        settings = {**SMALL, "scheme": "midpoint", "gradient": gradient, **settings}
        if steady:
            batch = tiny.batch(3, dtype=torch.float64)
            operator = Continuous(batch.signature, ContinuousConfig(**settings)).double()
        else:
            batch, operator = states(), forced(**settings)
        operator.recompute = recompute
        return grads(operator, batch)

    right = found("plain", num_steps=4)
    assert torch.equal(found("checkpoint", num_steps=4), right)
    off = []
    for num_steps in (4, 8, 16):
        exactly = found("plain", num_steps=num_steps)
        off.append(float((found("adjoint", num_steps=num_steps) - exactly).norm() / exactly.norm()))
    assert 1e-8 < off[2] < off[1] / 3 < off[0] / 9, off


def test_it_works_in_low_precision_with_every_gradient():
    for gradient in ("plain", "checkpoint", "adjoint"):
        operator = forced(gradient=gradient, num_steps=2).float()
        batch = states().to(dtype=torch.float32)
        right = grads(operator, batch)
        with torch.autocast("cpu", torch.bfloat16):
            loss = answered(operator, batch).square().sum()
        operator.zero_grad()
        loss.backward()
        near = torch.cat([p.grad.flatten() for p in operator.parameters()])
        assert 0 < (near - right).norm() < 0.1 * right.norm()


def test_it_learns_the_rate_of_a_decay():
    """du/dt = −r u, told r: trained at one time, it is right at a tenth of it and at four times as long."""
    names, grid = Signature(("heat",), ("rate",), ("heat",), 1, evolves=True), Grid.square(16, num_spatial_dims=1)
    generator = torch.Generator().manual_seed(0)

    def problems(num: int, time: float) -> Batch:
        rate = 0.5 + torch.rand(num, 1, generator=generator)
        inputs = torch.randn(num, 1, 1, 16, generator=generator)
        times = torch.full((num, 1), time)
        return Batch(names, grid, inputs, rate, inputs * (-rate * time).exp()[..., None, None], lead_time=times)

    batch = problems(64, 0.5)
    torch.manual_seed(0)
    normalization = fit_normalization(batch, (), kind="constant")
    config = ContinuousConfig(**{**SMALL, "latent_points": 0, "width": 16, "projection_width": 32})
    operator = Continuous(names, config, normalization=normalization)
    optimizer = torch.optim.Adam(operator.parameters(), lr=1e-2)
    for _ in range(100):
        loss = functional.mse_loss(answered(operator, batch), batch.require_targets())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for time in (0.05, 0.5, 2.0):
        asked = problems(64, time)
        moved = (asked.require_targets() - asked.inputs).norm()
        assert (answered(operator.stepped(num_steps=4), asked) - asked.require_targets()).norm() < 0.1 * moved


def test_a_run_of_it_is_found_again_and_a_file_of_it_answers_the_same(tmp_path):
    tree = tiny.recipe(
        system={"name": "burgers", "knobs": {}, "options": {"num_frames": 5}},
        model={"kind": "continuous", "network": {**SMALL, "scheme": "euler"}},
        data={"num_points": 16},
    )
    run = pretrain(tree, out=tmp_path)
    operator = load_operator(run.path)
    assert isinstance(operator, Continuous)
    batch = replace(exact.windows(3), systems=())
    assert (
        operator.stepped(num_steps=5)(replace(batch, lead_time=batch.lead_time / 3)).require_targets().isfinite().all()
    )
    files = export_operator(operator, tmp_path / "out", to="torch-export", grid=Grid.square(16, num_spatial_dims=1))
    assert files[0].num_points == (None,)
    assert max(check.difference for check in files[0].checks) < 1e-5
    save_operator(operator.stepped(scheme="rk4"), tmp_path / "rk4")
    assert load_operator(tmp_path / "rk4").config.scheme == "rk4"


# --- what it cannot do ------------------------------------------------------------------------------------------------


def test_what_it_cannot_do_is_refused_by_name():
    diagnosed = Signature(("u",), (), ("u", "pressure"), 1, evolves=True)
    with pytest.raises(SignatureError, match="'pressure' is none"):
        Continuous(diagnosed, ContinuousConfig(**SMALL))
    with pytest.raises(ConfigError, match="takes 1 input frame; got a history of 3"):
        ContinuousConfig().on(WALLS, history=3)
    with pytest.raises(SignatureError, match="give the batch a lead_time"):
        forced()(replace(states(), lead_time=None))
    with pytest.raises(SignatureError, match="A tendency is of what evolves"):
        Continuous(tiny.batch(1).signature, ContinuousConfig(**SMALL)).tendency(tiny.batch(1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"basis": 2}, r"basis must be at most num_steps \(1\)"),
        ({"between": "linear"}, "has no effect with basis = 1"),
        ({"scheme": "rk45"}, "scheme"),
        ({"gradient": "exact"}, "gradient"),
        ({"latent_points": 20}, r"at least twice modes \(12\)"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(ConfigError, match=words):
        build_config(ContinuousConfig, settings, source="the network")


def test_several_follow_their_own_ways_and_their_mean_is_the_answer():
    members = [forced(num_steps=2), forced(num_steps=2)]
    with torch.no_grad():
        members[1].lift.weight.add_(0.1)
    ensemble, batch = Ensemble.of(members), states()
    own = torch.stack([member(batch).require_targets() for member in members])
    torch.testing.assert_close(ensemble(batch).targets, own.mean(0))
    torch.testing.assert_close(ensemble(batch, apart=True).targets, own.flatten(0, 1))
    assert (own[0] - own[1]).abs().max() > 1e-3
    assert ensemble.sees_lead_time
    assert ensemble.any_lead_time
    with pytest.raises(ConfigError, match="can be given no heads"):
        Ensemble(FORCED, EnsembleConfig(member=ContinuousConfig(**SMALL), num_members=1, num_heads=3))


def test_surgery_keeps_the_field():
    operator = forced()
    names = Signature(("speed", "ground", "height", "rain"), ("drag",), ("speed", "height", "rain"), 1, evolves=True)
    blank = Continuous(names, operator.config).normalization
    new, rows = with_channels(operator, names, WALLS, blank, generator=torch.Generator().manual_seed(0))
    became = {(row["role"], row["name"]): row["became"] for row in rows}
    assert became["input", "speed"] == became["output", "height"] == became["coefficient", "drag"] == "reused"
    assert became["input", "rain"] == became["output", "rain"] == "added"
    assert torch.equal(new.lift.weight[:, 0], operator.lift.weight[:, 2].float())
    assert set(new.groups()) == {"lift", "spectral", "pointwise", "projection"}
    assert sum(p.numel() for part in new.groups().values() for p in part) == new.num_params


def test_the_dial_grows_the_model():
    counts = [Continuous(FORCED, ContinuousConfig.of_size(size)).num_params for size in ("tiny", "small", "base")]
    assert counts[0] * 2 < counts[1] < counts[2]
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        ContinuousConfig.of_size("smal")
