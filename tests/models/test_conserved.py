"""Operators whose answers hold what is known: one frame, marches, and what cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import exact
import tiny
from scifm.data.split import windows_of
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.forecast import judge
from scifm.fields.batch import Batch
from scifm.fields.bounded import AtLeast, Monotone
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded
from scifm.fields.norms import integral
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import spread_of
from scifm.fields.window import Window
from scifm.models.conserved import Conserved
from scifm.models.ensemble import Ensemble
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.models.rollout import rollout
from scifm.systems.euler import Euler
from scifm.systems.incompressible_flow import IncompressibleFlow
from scifm.systems.stefan import Stefan

STEFAN = Stefan(num_frames=6)
LINE = Grid((65,), 1.0, "open")


class Late(Operator):
    """Stefan's solution at another time than is asked for, smeared over some cells: a front that lags."""

    needs_periodic = False

    def __init__(self, late: float, *, width: float = 2.0) -> None:
        super().__init__(STEFAN.signature, FNOConfig(**tiny.NETWORK))
        self.late, self.width = nn.Parameter(torch.tensor(late)), width

    def network(self, encoded: Encoded) -> Tensor:
        now, c, grid = encoded.inputs[:, 0], encoded.coefficients.double(), encoded.grid
        interval = STEFAN.save_interval * (1 - self.late.double())
        later = STEFAN.cell_means(STEFAN.times_of(now[:, 0], c, grid)[:, None] + interval, c, grid)
        x = torch.arange(-8, 9, dtype=torch.float64)
        kernel = torch.exp(-(x**2) / (2 * self.width**2))
        ends = torch.cat([2 - later[..., 1:9].flip(-1), later, 0 * later[..., :8]], dim=-1)
        smeared = nn.functional.conv1d(ends, (kernel / kernel.sum()).view(1, 1, -1))
        return (smeared - now).unsqueeze(1).to(now.dtype)


def ensemble(*lates: float) -> list[Operator]:
    return [Late(late) for late in lates]


def trajectories(count: int = 4) -> Batch:
    return STEFAN.sample(count, LINE, generator_for(0, "conserved"), dtype=torch.float64)


def pairs() -> Batch:
    return windows_of(trajectories(), Window()).batch(torch.arange(0, 20, 5))


def off(operator: Operator, batch: Batch) -> Tensor:
    """Return by how much each answer misses what Stefan's interval holds, ``(batch, time)``."""
    held = integral(operator.double()(batch).target("temperature"), batch.grid)
    return (held - STEFAN.budgets(batch)["temperature"]).abs()


@pytest.mark.parametrize("weigh", ["variance", "members", "alike"])
def test_one_frame_and_a_march_hold_what_the_system_says(weigh):
    operator = Conserved(ensemble(0.1, 0.3, 0.6), STEFAN.budgets, weigh=weigh)
    assert off(operator, pairs()).max() < 1e-12
    assert off(operator, trajectories()).max() < 1e-12
    assert off(Late(0.3), trajectories()).max() > 1e-2


def test_a_march_beyond_the_known_frames_keeps_on():
    operator = Conserved(ensemble(0.1, 0.3, 0.6), STEFAN.budgets).double()
    batch = pairs()
    frames = list(rollout(operator, batch, 5))
    ahead = replace(batch, lead_time=torch.arange(1, 6) * batch.lead_time[:, :1], targets=None)
    known = STEFAN.budgets(ahead)["temperature"]
    held = torch.cat([integral(frame.target("temperature"), LINE) for frame in frames], dim=1)
    torch.testing.assert_close(held, known, rtol=1e-6, atol=0)  # lead times are counted in single precision


def test_a_lagging_front_is_moved_where_members_differ_and_the_error_falls():
    """What the paper finds: weighed by the spread the error falls severalfold, moved alike hardly."""
    batch = pairs()
    errors = {}
    for name, operator in {
        "mean": Conserved(ensemble(0.5, 0.9, 1.3), lambda _: {}),
        "alike": Conserved(ensemble(0.5, 0.9, 1.3), STEFAN.budgets, weigh="alike"),
        "variance": Conserved(ensemble(0.5, 0.9, 1.3), STEFAN.budgets),
    }.items():
        errors[name] = float((operator.double()(batch).targets - batch.targets).square().mean().detach())
    assert errors["variance"] < 0.6 * errors["mean"]
    assert 0.8 * errors["mean"] < errors["alike"] < errors["mean"]


def test_an_ensemble_is_its_members():
    members, batch = ensemble(0.1, 0.3, 0.6), trajectories()
    apart = Conserved(members, STEFAN.budgets).double()
    together = Conserved(Ensemble.of(members), STEFAN.budgets).double()
    assert together.weigh == "variance"
    torch.testing.assert_close(together.answers(batch).targets, apart.answers(batch).targets)
    one = pairs()
    for own, theirs in zip(together.said(one), apart.said(one), strict=True):
        torch.testing.assert_close(own, theirs)


def test_a_single_operator_moves_alike():
    one = Conserved(Late(0.4), STEFAN.budgets).double()
    assert one.weigh == "alike"
    batch = pairs()
    shift = one(batch).targets - Late(0.4).double()(batch).targets
    inside = shift[..., 1:-1]
    torch.testing.assert_close(inside, inside[..., :1].expand_as(inside), rtol=0, atol=1e-12)


def test_a_variance_that_is_given_says_where():
    def known(batch: Batch, mean: Tensor) -> Tensor:
        return torch.linspace(0, 1, 65, dtype=mean.dtype).expand_as(mean)

    operator = Conserved(Late(0.4), STEFAN.budgets, variance=known).double()
    shift = operator(pairs()).targets - Late(0.4).double()(pairs()).targets
    assert shift[..., 0].abs().max() < 1e-14
    slope = shift[..., 2:-1].diff()
    torch.testing.assert_close(slope, slope[..., :1].expand_as(slope), rtol=1e-6, atol=1e-12)


def test_what_is_left_of_the_spread_is_said():
    operator = Conserved(ensemble(0.1, 0.3, 0.6), STEFAN.budgets).double()
    answer, variance = operator.said(pairs())
    assert torch.equal(answer, operator(pairs()).targets)
    free = Conserved(ensemble(0.1, 0.3, 0.6), lambda _: {}).double().said(pairs())[1]
    assert (variance >= 0).all()
    assert (variance <= free + 1e-15).all()
    assert variance.sum() < free.sum()
    alike = Conserved(ensemble(0.1, 0.3, 0.6), STEFAN.budgets, weigh="alike").double().said(pairs())[1]
    assert torch.equal(alike, free)


def test_an_output_may_be_nowhere_negative():
    low = lambda batch, mean: torch.ones_like(mean)  # noqa: E731
    plain = Conserved(Late(-1.5), STEFAN.budgets, variance=low).double()
    positive = {"temperature": AtLeast(0.0)}
    raised = Conserved(Late(-1.5), STEFAN.budgets, variance=low, bounds=positive).double()
    assert plain(pairs()).targets.min() < -1e-3
    assert raised(pairs()).targets.min() >= 0
    assert off(raised, trajectories()).max() < 1e-12
    free = Conserved(Late(-1.5), lambda _: {}, bounds=positive).double()
    assert torch.equal(free(pairs()).targets, Late(-1.5).double()(pairs()).targets.clamp(min=0))


@pytest.mark.parametrize("weigh", ["variance", "members", "alike"])
def test_an_output_may_rise_nowhere_and_keep_what_it_holds(weigh):
    """However it is weighed, in a march too."""

    class Ringing(Late):
        def network(self, encoded: Encoded) -> Tensor:
            places = torch.arange(encoded.grid.num_points[0], dtype=torch.float64)
            return super().network(encoded) + 0.05 * self.late.detach() * torch.sin(2.1 * places).to(encoded.inputs)

    members = [Ringing(late) for late in (0.1, 0.3, 0.6)]
    falling = {"temperature": (Monotone(rising=False), AtLeast(0.0))}
    plain, held = (
        Conserved(members, STEFAN.budgets, weigh=weigh, bounds=bounds).double() for bounds in (None, falling)
    )
    frames = held(trajectories()).targets
    assert frames.diff(dim=-1).max() < 1e-9 < 1e-3 < plain(trajectories()).targets.diff(dim=-1).max()
    assert frames.min() > -1e-9
    assert off(held, trajectories()).max() < 1e-9


def flow() -> tuple[IncompressibleFlow, Batch]:
    system = IncompressibleFlow(num_frames=3)
    return system, system.sample(3, Grid.square(16), generator_for(0, "flow"), dtype=torch.float64)


class Compressing(Operator):
    """The velocity as it was, and something with a divergence and a mean."""

    def __init__(self, size: float) -> None:
        super().__init__(IncompressibleFlow.signature, FNOConfig(**tiny.NETWORK))
        self.size = nn.Parameter(torch.tensor(size))

    def network(self, encoded: Encoded) -> Tensor:
        way = 2 * torch.pi * torch.linspace(0, 1, 17)[:16]
        wrong = torch.stack([(1 + torch.sin(way)).expand(16, 16), torch.cos(way)[:, None].expand(16, 16)])
        return (self.size * wrong.to(encoded.inputs)).expand(len(encoded.inputs), 1, 2, 16, 16)


def test_a_velocity_without_divergence_stays_one():
    system, batch = flow()
    held = Conserved(Compressing(0.1), system.budgets, solenoidal=system.solenoidal).double()
    plain = Conserved(Compressing(0.1), system.budgets).double()
    spread = [spread_of([o(batch).target(name) for name in system.solenoidal], batch.grid) for o in (held, plain)]
    assert spread[0].max() < 1e-13 < 1e-3 < spread[1].min()
    for operator in (held, plain):
        for name, values in system.budgets(batch).items():
            assert (integral(operator(batch).target(name), batch.grid) - values).abs().max() < 1e-12
    unheld = Conserved(Compressing(0.1), lambda _: {}, solenoidal=system.solenoidal).double()(batch)
    assert integral(unheld.target("velocity_x"), batch.grid).abs().min() > 1e-3, "means are not its business"


def test_a_forecast_is_judged_as_of_any_operator():
    leaking = exact.forecaster(2.0, kick=0.05)
    burgers = exact.BURGERS.sample(4, exact.LINE, generator_for(0, "exact"))
    before = judge(leaking, burgers, system=exact.BURGERS)
    after = judge(Conserved(leaking, exact.BURGERS.budgets), burgers, system=exact.BURGERS)
    assert before.drifts["momentum"].abs().max() > 0.1
    assert after.drifts["momentum"].abs().max() < 1e-5
    assert after.curve("vrmse")[-1] < before.curve("vrmse")[-1]


def test_it_hangs_on_no_precision_more_than_its_answers():
    batch = pairs().to(dtype=torch.float32)
    operator = Conserved(ensemble(0.1, 0.3, 0.6), STEFAN.budgets)
    answer = operator(batch)
    assert answer.targets.dtype == torch.float32
    held = integral(answer.target("temperature").double(), LINE)
    torch.testing.assert_close(held, STEFAN.budgets(batch)["temperature"], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("made", "error", "told"),
    [
        (lambda: Conserved([], STEFAN.budgets), ConfigError, "no operator"),
        (
            lambda: Conserved(Late(0.1), STEFAN.budgets, weigh="variance"),
            ConfigError,
            "One operator alone says no spread",
        ),
        (lambda: Conserved(ensemble(0.0, 1.0), STEFAN.budgets, weigh="some"), ConfigError, "got 'some'"),
        (
            lambda: Conserved(ensemble(0.0, 1.0), STEFAN.budgets, weigh="alike", variance=lambda b, m: m),
            ConfigError,
            "has no effect",
        ),
        (lambda: Conserved(Late(0.1), STEFAN.budgets, bounds={"heat": AtLeast()}), SignatureError, "heat is no output"),
        (
            lambda: Conserved(Late(0.1), STEFAN.budgets, bounds={"temperature": AtLeast(2.0)})(pairs()),
            DataError,
            "No answer that meets these bounds",
        ),
        (
            lambda: Conserved(Compressing(0.1), flow()[0].budgets, solenoidal=("velocity_x",)),
            SignatureError,
            "has 2 components here, along x, y; got velocity_x",
        ),
        (
            lambda: Conserved(
                Compressing(0.1),
                flow()[0].budgets,
                solenoidal=("velocity_x", "velocity_y"),
                bounds={"velocity_x": AtLeast()},
            ),
            ConfigError,
            "velocity_x cannot both have bounds and be without divergence",
        ),
        (
            lambda: Conserved(Late(0.1), STEFAN.budgets, solenoidal=("temperature",))(pairs()),
            SignatureError,
            "periodic on every axis",
        ),
        (lambda: Conserved([Late(0.1), exact.forecaster()], STEFAN.budgets), SignatureError, "answer together"),
        (lambda: Conserved(Late(0.1), STEFAN.budgets).said(pairs()), ConfigError, "says no variance"),
        (lambda: Conserved(Late(0.1), STEFAN.budgets).save_pretrained("x"), ConfigError, "save its members"),
        (
            lambda: Conserved(Late(0.1), lambda b: {"heat": torch.zeros(4, 1)})(pairs()),
            SignatureError,
            "'heat' holds is known, and it is no output",
        ),
        (
            lambda: Conserved(Late(0.1), lambda b: {"temperature": torch.zeros(4)})(pairs()),
            SignatureError,
            r"\(4, 1\); got \(4,\)",
        ),
        (lambda: Conserved(ensemble(0.3, 0.3), STEFAN.budgets).double()(pairs()), DataError, "no spread"),
    ],
)
def test_what_cannot_be_is_refused(made, error, told):
    with pytest.raises(error, match=told):
        made()


def test_only_what_is_known_of_several_outputs_is_moved():
    system = Euler(num_spatial_dims=1)
    assert system.kept(Grid.square(16, num_spatial_dims=1)) == system.signature.outputs[:1]
