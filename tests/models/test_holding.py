"""Operators whose answers hold something by their settings: any kind, trained or not, marched, saved, moved on."""

from __future__ import annotations

import pytest
import torch

import kinds
import networks
import tiny
from scifm.config import build_config
from scifm.data.generate import generate
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.bounded import Monotone
from scifm.fields.grid import Grid
from scifm.fields.holding import Holds, Rows
from scifm.fields.norms import mean
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import spread_of
from scifm.models import OPERATORS
from scifm.models.conserved import Conserved
from scifm.models.coordinate import Coordinate, CoordinateConfig
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.export import export_operator
from scifm.models.fno import FNO, FNOConfig
from scifm.models.in_context import InContextConfig
from scifm.models.module_operator import ModuleOperator
from scifm.models.neighbours import corrected
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.models.rollout import rollout
from scifm.models.surgery import renamed, with_channels
from scifm.systems.burgers import Burgers
from scifm.systems.incompressible_flow import IncompressibleFlow
from scifm.training.finetune import finetune
from scifm.training.pretrain import PretrainRecipe, build_operator, pretrain

FLOW = IncompressibleFlow(num_frames=4)
SQUARE = Grid.square(16)
HOLD = Holds(mean={"velocity_x": "kept", "velocity_y": 0.0}, solenoidal=FLOW.solenoidal)

SMALL = {
    **kinds.SMALL,
    "in_context": InContextConfig(**{**kinds.SMALL["in_context"].to_dict(), "hides": ("viscosity",)}),
}

every_kind = pytest.mark.parametrize(
    "kind", [kind for kind, operator in OPERATORS.items() if operator.config_class.answers_frames]
)


def flow(*, num_samples: int = 3) -> Batch:
    return FLOW.sample(num_samples, SQUARE, generator_for(0, "held"))


def made(kind: str, hold: Holds | None = HOLD) -> Operator:
    """Return a fresh operator of a kind, whose answers are of any size."""
    assert kind in SMALL, f"tell tests/kinds.py how to make a small '{kind}'"
    torch.manual_seed(0)
    return OPERATORS[kind](FLOW.signature, SMALL[kind].holding(hold))


def require_held(answer: Batch, question: Batch) -> None:
    """Check that each frame holds, to a millionth of the field's size, in single precision."""
    x, y = (answer.target(name) for name in FLOW.solenoidal)
    assert x.dtype == torch.float32
    rms = torch.stack([x, y]).double().square().mean((0, -2, -1)).sqrt()
    before = mean(question.field("velocity_x")[:, -1:].double(), SQUARE)
    assert ((mean(x.double(), SQUARE) - before).abs() < 1e-6 * rms).all()
    assert (mean(y.double(), SQUARE).abs() < 1e-6 * rms).all()
    assert (spread_of([x.double(), y.double()], SQUARE) < 1e-6).all()


@every_kind
def test_an_operator_of_any_kind_holds_it_before_it_is_trained(kind):
    batch = flow()
    answer = made(kind)(batch)
    assert answer.num_frames == 3
    require_held(answer, batch)
    free = made(kind, None)(batch)
    assert spread_of([free.target(name) for name in FLOW.solenoidal], SQUARE).max() > 1e-3
    (one,) = [made(kind).each(batch)] if kind == "ensemble" else [[answer]]
    for each in one:
        require_held(each, batch)


@every_kind
def test_whatever_is_asked(kind):
    """Numbers of any size that no system draws."""
    batch = flow()
    noise = torch.randn(batch.inputs.shape, generator=generator_for(0, "noise"))
    for size in (1e-4, 1.0, 1e4):
        asked = Batch(batch.signature, SQUARE, size * noise, batch.coefficients, lead_time=batch.lead_time[:, :1])
        require_held(made(kind)(asked), asked)


@every_kind
def test_saved_and_loaded_it_holds_the_same(kind, tmp_path):
    operator, batch = made(kind), flow()
    operator.save_pretrained(tmp_path)
    again = load_operator(tmp_path)
    assert again.config.holds == HOLD
    assert torch.equal(again.answers(batch).targets, operator.answers(batch).targets)


@every_kind
def test_an_operator_is_given_it_afterwards_and_loses_it(kind):
    free, batch = made(kind, None), flow()
    held = free.holding(HOLD)
    require_held(held(batch), batch)
    assert {id(weight) for weight in held.parameters()} == {id(weight) for weight in free.parameters()}
    assert torch.equal(held.holding(None)(batch).targets, free(batch).targets)
    assert free.config.holds is None


def test_a_network_that_was_wrapped_from_an_object_too():
    wrapped = ModuleOperator.wrap(networks.GlobalNet(4, 2), FLOW.signature)
    batch = flow()
    require_held(wrapped.holding(HOLD)(batch), batch)


@every_kind
def test_a_step_of_training_is_one_through_the_layer(kind):
    """What is not free has no say in the loss, and after a step the answer holds as before."""
    operator, batch = made(kind), flow()
    operator(batch.with_targets(None)).require_targets().square().sum().backward()
    steps = {name: p.grad for name, p in operator.named_parameters() if p.grad is not None}
    assert len(steps) > 2
    with torch.no_grad():
        for name, weight in operator.named_parameters():
            weight -= 0.1 * steps.get(name, torch.zeros_like(weight))
    require_held(operator(batch), batch)


def test_gradients_of_weights_are_those_of_differences():
    operator = made("fno").differentiable().double()
    batch = flow(num_samples=1).to(dtype=torch.float64).with_targets(None)
    ends = operator.outer_maps()

    def loss(name):
        def of(weights):
            answer = torch.func.functional_call(operator, {name: weights}, (batch,)).require_targets()
            return answer.pow(4).sum()

        return of

    names = {id(own): name for name, own in operator.named_parameters()}
    bias, weight = (own.detach().clone().requires_grad_() for own in (ends.last.bias, ends.last.weight))
    assert torch.autograd.grad(loss(names[id(ends.last.bias)])(bias), bias)[0].abs().max() < 1e-12, (
        "no way that is free"
    )
    assert torch.autograd.gradcheck(loss(names[id(ends.last.weight)]), (weight,), fast_mode=True)
    assert torch.autograd.gradgradcheck(loss(names[id(ends.last.weight)]), (weight,), fast_mode=True)


def test_marched_it_holds_what_it_began_with():
    operator, batch = made("fno"), flow()
    frames = list(rollout(operator, batch, 12))
    for frame in frames:
        require_held(frame, batch)


# --- in a recipe ------------------------------------------------------------------------------------------------------

OPTIONS = {"num_frames": 4}
BURGERS = Burgers(**OPTIONS)
RECIPE = tiny.recipe(
    system={"name": "burgers", "options": OPTIONS},
    model={"network": tiny.NETWORK, "hold": {"mean": {"velocity": "kept"}}},
)
RECIPE["system"].pop("knobs", None)
MEANS = Holds(mean={"velocity": "kept"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return pretrain(RECIPE, out=tmp_path_factory.mktemp("runs"))


def drift(operator: Operator) -> float:
    """Return by how much means change along a march, over the size of the field."""
    batch = BURGERS.sample(3, Grid((16,)), generator_for(1, "drift"))
    start, after = (
        mean(field.double(), batch.grid)
        for field in (batch.field("velocity"), operator.answers(batch).target("velocity"))
    )
    return float((after - start).abs().max() / batch.field("velocity").double().square().mean().sqrt())


def test_a_recipe_trains_it_and_the_run_and_what_is_tuned_have_it(trained, tmp_path):
    operator = load_operator(trained)
    assert operator.config.holds == MEANS
    assert trained.config["model"]["network"]["hold"] == MEANS.to_dict()
    assert "hold" not in trained.config["model"]
    assert drift(operator) < 1e-6 < 1e-3 < drift(operator.holding(None))
    store = generate(BURGERS, num_samples={"train": 4, "valid": 2, "test": 2}, num_points=16, path=tmp_path / "store")
    settings = {"num_samples": 3, "learning_rates": [1e-3, 1e-2], "min_scored": 1}
    tuned = finetune(trained, store, out=tmp_path, training={**tiny.ADAPTING, "num_steps": 4}, **settings)
    assert load_operator(tuned).config.holds == MEANS
    assert drift(load_operator(tuned)) < 1e-6


def test_members_of_an_ensemble_hold_it_by_a_recipe():
    recipe = PretrainRecipe.read({**RECIPE, "model": {**RECIPE["model"], "num_members": 2, "num_heads": 2}})
    config = recipe.model.resolve()
    assert isinstance(config, EnsembleConfig)
    assert config.holds == config.member.hold == MEANS
    operator = build_operator(BURGERS.signature, config, None, seed=0)
    assert operator.num_members == 4
    assert drift(operator) < 1e-6
    assert Ensemble.of([made("fno"), made("fno")]).config.holds == HOLD


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"hold": {"mean": {"speed": 0.0}}}, "hold names outputs of the operator: 'speed'"),
        ({"hold": {"boundary": {"velocity": {"x": 0.0}}}}, "ends of x, which wraps around"),
        (
            {"hold": {"rows": [{"outputs": ["velocity"], "rows": [[1.0, 2.0]], "values": [0.0]}]}},
            "16 numbers on 16 points; got rows of 2",
        ),
        ({"hold": {}}, "hold says of no output"),
        ({"hold": {"means": {}}}, "means"),
        ({"network": {**tiny.NETWORK, "hold": MEANS.to_dict()}}, "one place"),
    ],
)
def test_what_a_recipe_cannot_hold_is_told_before_anything_is_spent(model, told, tmp_path):
    with pytest.raises((ConfigError, SignatureError), match=told):
        pretrain({**RECIPE, "model": {**RECIPE["model"], **model}}, out=tmp_path)
    assert not list(tmp_path.iterdir())


# --- beside other things ----------------------------------------------------------------------------------------------


def test_channels_that_go_take_with_them_what_they_held():
    operator = made("fno")
    called = renamed(made("fno"), {"east": "velocity_x"})
    assert called.config.holds == HOLD.renamed(lambda name: {"velocity_x": "east"}.get(name, name))
    less = Signature(("velocity_x",), (), ("velocity_x",), evolves=True)
    other, _ = with_channels(operator, less, SQUARE, None, generator=generator_for(0, "channels"))
    assert other.config.holds == Holds(mean={"velocity_x": "kept"})


def test_corrected_answers_hold_it_too():
    batch = flow()
    shown = FLOW.sample(4, SQUARE, generator_for(1, "shown"))
    one = Batch(
        shown.signature,
        SQUARE,
        shown.inputs,
        shown.coefficients,
        shown.targets[:, :1],
        lead_time=shown.lead_time[:, :1],
    )
    asked = Batch(batch.signature, SQUARE, batch.inputs, batch.coefficients, lead_time=batch.lead_time[:, :1])
    require_held(corrected(made("fno"), one, neighbours=2.0)(asked), asked)


@pytest.mark.parametrize("to", ["torch-export", "onnx"])
def test_it_is_exported_along(to, tmp_path):
    """Means and values at walls; the divergence needs a transform that ONNX files do not hold."""
    walled = Grid((12, 12), 1.0, ("wall", "periodic"))
    signature = Signature(("f",), (), ("t",))
    hold = Holds(boundary={"t": {"y": (0.0, 1.0)}}, mean={"t": 0.25})
    operator = FNO(signature, FNOConfig(**tiny.NETWORK, position=True, hold=hold))
    (file,) = export_operator(operator, tmp_path, to=to, grid=walled)
    assert file.num_points == (12, 12), "what is held is of one grid"
    assert all(check.difference < 1e-5 for check in file.checks)


def test_what_is_known_of_integrals_and_what_members_hold_is_met_at_once():
    signature = Signature(("t",), (), ("t",), 1, evolves=True)
    grid = Grid((17,), 1.0, "open")
    hold = Holds(boundary={"t": {"x": (0.0, 1.0)}}, mean={"t": 7.0}, rows=(Rows.of("t", torch.eye(17)[8], 0.25),))
    torch.manual_seed(0)
    members = [FNO(signature, FNOConfig(**tiny.NETWORK, position=True, hold=hold)) for _ in range(3)]
    batch = Batch(signature, grid, torch.randn(2, 1, 1, 17, generator=generator_for(0, "t")), torch.zeros(2, 0),
                  lead_time=torch.tensor([[0.1, 0.2]]).expand(2, 2))  # fmt: skip
    torch.testing.assert_close(mean(members[0](batch).target("t"), grid), torch.full((2, 2), 7.0))

    def budgets(asked: Batch) -> dict[str, torch.Tensor]:
        return {"t": torch.full((asked.num_samples, asked.num_frames), 0.4, dtype=torch.float64)}

    for weigh in ("variance", "members", "alike"):
        held = Conserved(members, budgets, weigh=weigh).answers(batch).target("t")
        torch.testing.assert_close(mean(held.double(), grid), torch.full((2, 2), 0.4).double(), rtol=1e-6, atol=1e-7)
        asked = torch.tensor([0.0, 0.25, 1.0]).expand(2, 2, 3)
        torch.testing.assert_close(held[..., [0, 8, 16]], asked, rtol=1e-6, atol=1e-6)
    with pytest.raises(ConfigError, match="are given no bounds"):
        Conserved(members, budgets, bounds={"t": Monotone()})


def test_missing_points_are_refused():
    batch = flow()
    valid = torch.ones_like(batch.inputs, dtype=torch.bool)
    valid[0, 0, 0, :3] = False
    gaps = Batch(batch.signature, SQUARE, batch.inputs, batch.coefficients, lead_time=batch.lead_time[:, :1],
                 valid_inputs=valid)  # fmt: skip
    with pytest.raises(SignatureError, match="missing points holds is not known"):
        made("fno")(gaps)


def test_one_that_answers_at_points_holds_nothing():
    assert [kind for kind, own in OPERATORS.items() if not own.config_class.answers_frames] == ["coordinate"]
    with pytest.raises(ConfigError, match="'coordinate' answers at single points"):
        build_config(CoordinateConfig, {"hold": MEANS.to_dict()})
    with pytest.raises(ConfigError, match="'coordinate' answers at single points"):
        Coordinate(BURGERS.signature, CoordinateConfig()).holding(MEANS)


def test_an_operator_that_cannot_hold_it_is_not_made():
    with pytest.raises(ConfigError, match="hold names outputs"):
        FNO(FLOW.signature, FNOConfig(**tiny.NETWORK, hold=Holds(mean={"heat": 0.0})))
    with pytest.raises(ConfigError, match="hold names outputs"):
        made("fno", None).holding(Holds(mean={"heat": 0.0}))
    rows = Rows.of(FLOW.solenoidal, torch.ones(1, 512), 0.0)
    both = Holds(solenoidal=FLOW.solenoidal, rows=(rows,))
    with pytest.raises(ConfigError, match="held to rows and without divergence"):
        Conserved(made("fno", both), FLOW.budgets)
    with pytest.raises(ConfigError, match="answer together hold the same"):
        Conserved([made("fno"), made("fno", None)], FLOW.budgets)
