"""Everything on a GPU, or as on one: `pretended` where there is none.

Nothing is left behind on the host, nothing is copied silently, a step waits for the GPU no more often than is said
here, and the numbers are those of the CPU without its kernels.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

import pinn
import tiny
from kinds import SMALL
from pretended import GPU, pretended_gpu, without_kernels
from scifm.data.normalize import fit_normalization
from scifm.data.split import windows_of
from scifm.evaluation.evaluate import evaluate
from scifm.evaluation.forecast import judge
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.models import OPERATORS
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.models.rollout import rollout
from scifm.systems.burgers import Burgers
from scifm.systems.catalog import SYSTEMS
from scifm.systems.evolving import Evolving
from scifm.training.pretrain import pretrain

SIGNATURE = Signature(("f",), ("a", "b"), ("u", "v"))
ASKS_MORE = {"coordinate": {"numbers to the GPU"}}
"""What an operator tells the GPU at every step, beside its weights and the samples."""
every_operator = pytest.mark.parametrize("name", OPERATORS)


@pytest.fixture(autouse=True)
def _no_kernels():
    with without_kernels():
        yield


def problems(num_samples: int = 3) -> Batch:
    grid, generator = Grid((12, 16), (1.0, 1.0), (True, True)), torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(num_samples, *shape, generator=generator)

    return Batch(SIGNATURE, grid, drawn(1, 1, 12, 16), drawn(2), drawn(1, 2, 12, 16))


def make(name: str) -> Operator:
    torch.manual_seed(0)
    return OPERATORS[name](SIGNATURE, SMALL[name])


def step(operator: Operator, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    operator.zero_grad()
    loss = (operator(batch).require_targets() - batch.require_targets()).square().mean()
    loss.backward()
    return loss.detach(), {name: w.grad for name, w in operator.named_parameters() if w.grad is not None}


def the_same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# --- operators --------------------------------------------------------------------------------------------------------


@every_operator
def test_a_step_of_an_operator_stays_there(name):
    operator, batch = make(name), problems()
    loss, gradients = step(copy.deepcopy(operator), batch)
    with pretended_gpu() as gpu:
        operator.to(GPU)
        batch = batch.to(GPU)
        step(operator, batch)  # tables are made at first use
        with gpu.watching() as events:
            loss_there, gradients_there = step(operator, batch)
        assert {what for what, _ in events} <= ASKS_MORE.get(name, set())
        assert gpu.has(loss_there)
        assert all(map(gpu.has, gradients_there.values()))
        found = {name: gradient.cpu() for name, gradient in gradients_there.items()}
        the_same(loss_there.cpu(), loss)
        the_same(found, gradients)


@every_operator
def test_answers_come_back_to_where_the_question_is(name):
    operator, batch = make(name), problems().with_targets(None)
    expected = operator.answers(batch).require_targets()
    with pretended_gpu() as gpu:
        operator.to(GPU)
        answer = operator.answers(batch)
        assert not gpu.has(answer.require_targets())
        the_same(answer.require_targets(), expected)
        assert gpu.has(operator.answers(batch.to(GPU)).require_targets())


@pytest.mark.gpu
@every_operator
def test_a_step_on_an_actual_gpu_has_the_numbers_of_the_cpu_and_waits_for_nothing(name):
    operator, batch = make(name).double(), problems().to(dtype=torch.float64)
    loss, gradients = step(copy.deepcopy(operator), batch)
    operator.to(GPU)
    batch = batch.to(GPU)
    step(operator, batch)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default" if name in ASKS_MORE else "error")
    try:
        found = step(operator, batch)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert found[0].is_cuda
    torch.testing.assert_close(found[0].cpu(), loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close({k: g.cpu() for k, g in found[1].items()}, gradients, rtol=1e-7, atol=1e-10)


# --- training ---------------------------------------------------------------------------------------------------------

TRAINING = {**tiny.TRAINING, "num_steps": 4, "validate_every": 2, "log_every": 1, "checkpoint_every": 2}
POINTS = {**tiny.RECIPE["data"], "num_samples": 8}
EVOLVING = {"system": tiny.EVOLVING["system"], "data": {**tiny.EVOLVING["data"], "num_points": 32, "num_samples": 8}}
STEADY = {"system": tiny.RECIPE["system"], "data": POINTS}
BLOCKS = {"width": 8, "num_heads": 2, "num_blocks": 1, "patch": 4, "condition_width": 4}


def recipe(of: dict[str, Any], *, kind: str = "fno", network: Any = tiny.NETWORK, **training: Any) -> dict[str, Any]:
    model = {"kind": kind, "network": network}
    return {**tiny.RECIPE, **copy.deepcopy(of), "model": model, "training": {**TRAINING, **training}}


RECIPES: dict[str, dict[str, Any]] = {
    "fno": recipe(STEADY),
    "history and several steps": recipe(EVOLVING),
    "relative change": recipe(EVOLVING, objective="relative_change"),
    "mean squared error": recipe(STEADY, objective="mean_squared_error"),
    "summed squared error": recipe(STEADY, objective="summed_squared_error", optimizer="nadam", ema_decay=0.9),
    "masked": recipe(STEADY, objective={"name": "masked", "ratio": 0.5, "blur": [0, 1]}),
    "residual": recipe(STEADY, objective="residual", gradient_clip=1.0),
    "residual beside solutions": recipe(STEADY, objective={"name": "relative_l2", "residual": 0.1}),
    "residual of what evolves": recipe(EVOLVING, objective={"name": "relative_l2", "residual": 0.1}),
    "in pieces, again": recipe(STEADY, micro_batches=2, recompute=True, patience=9),
    "l-bfgs": recipe(STEADY, batch_size=8, optimizer="lbfgs", learning_rate=1.0, schedule="constant"),
    "bf16": recipe(STEADY, precision="bf16-mixed"),
    "float64": recipe(STEADY, precision="64-true"),
    "drawn anew": recipe({**STEADY, "data": tiny.RECIPE["data"]}),
    "unet": recipe(STEADY, kind="unet", network={"width": 4, "levels": 2, "blocks": 1, "projection_width": 8}),
    "axial_transformer": recipe(STEADY, kind="axial_transformer", network=BLOCKS, precision="64-true"),
    "in_context": recipe(
        {**STEADY, "data": {**tiny.RECIPE["data"], "same_knobs": 4}},
        kind="in_context",
        network={**BLOCKS, "hides": ["diffusion_xx"]},
        objective={"name": "relative_l2", "shows": 2},
        precision="64-true",
    ),
    "ensemble": recipe(STEADY, kind="ensemble", network={"member": tiny.NETWORK, "num_members": 2, "num_heads": 2}),
    "continuous": recipe(
        {**EVOLVING, "data": {**EVOLVING["data"], "history": 1}},
        kind="continuous",
        network={**tiny.NETWORK, "num_steps": 2, "basis": 2},
    ),
    "coordinate": {**pinn.RECIPE, "training": {**pinn.RECIPE["training"], "num_steps": 4}},
}


def trained(name: str, folder: Any, accelerator: str, observe: Any = None) -> dict[str, torch.Tensor]:
    tree = copy.deepcopy(RECIPES[name])
    tree["training"]["accelerator"] = accelerator
    run = pretrain(tree, out=folder / accelerator, observe=observe)
    return load_operator(run.path / "model").state_dict()


STEP = {("to the GPU", "fields/batch.py"), ("waits: tolist", "training/loop.py")}
"""What a step has to do with the host: samples come, loss and norm of the gradient go back, at once."""
MORE = {
    "masked": {("waits: aten::nonzero", "fields/hiding.py")},  # whether something is left to see of every sample
    "l-bfgs": {("waits: aten::_local_scalar_dense", "training/optimizers.py")},  # its line search
    "coordinate": {  # points are drawn on the host, and few
        ("to the GPU", "objectives/collocating.py"),
        ("to the GPU", "fields/spectral.py"),
        ("numbers to the GPU", "models/coordinate.py"),
        ("waits: aten::_local_scalar_dense", "objectives/collocating.py"),
        ("waits: aten::_local_scalar_dense", "models/coordinate.py"),
    },
}
"""What some may have beyond that, and why."""
_OF_RESIDUALS = {
    ("numbers to the GPU", "objectives/equation.py"),
    ("to the GPU", "fields/spectral.py"),
    ("to the GPU", "fields/batch.py"),
    ("waits: tolist", "fields/batch.py"),
}
# wavenumbers are made on the host, and samples are sorted by their systems there
MORE |= {name: _OF_RESIDUALS for name in RECIPES if name.startswith("residual")}
MORE["residual"] = MORE["residual"] | {
    ("to the host", "training/loop.py")
}  # clipping groups by devices in C++, which sees the host's
MORE["in_context"] = {("numbers to the GPU", "objectives/showing.py")}  # which samples are of one system


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_there_ends_with_the_same_weights(name, tmp_path):
    expected, seen = trained(name, tmp_path, "cpu"), []
    with pretended_gpu() as gpu:

        def observe(**event: Any) -> None:
            if event["event"] == "train" and event["step"] == 1:  # nothing is saved or validated before the next
                gpu.events.clear()
            if event["event"] == "step" and event["step"] == 2:
                seen.extend(gpu.events)

        found = trained(name, tmp_path, "cuda", observe)
    the_same(found, expected)
    told = {(what, where.partition(":")[0]) for what, where in seen}
    waits = [what for what, where in seen if what.startswith("waits") and where.startswith("training/loop.py")]
    assert waits == ["waits: tolist"] or name == "l-bfgs"  # which asks again
    assert told - STEP <= MORE.get(name, set())


@pytest.mark.parametrize("hold", [{"mean": {"velocity": "kept"}}, {"mean": {"velocity": 0.0}}])
def test_what_is_held_lies_where_the_answer_lies(hold):
    """On torch's own device without numbers: of its backward pass the pretended GPU cannot tell what autograd makes."""
    system = Burgers(num_frames=4)
    batch = system.sample(2, Grid((32,)), generator=torch.Generator().manual_seed(0)).to(dtype=torch.float32)
    network = FNOConfig(**{**tiny.NETWORK, "engine": "plain", "hold": hold})
    operator = FNO(system.signature, network).to("meta")
    answer = operator(batch.to("meta")).require_targets()
    answer.square().sum().backward()
    assert answer.is_meta
    assert all(weight.grad is not None and weight.grad.is_meta for weight in operator.parameters())


DRAWS = {"masked", "in_context", "bf16", "l-bfgs", "float64"}
"""What draws on the device, whose numbers are others, knows three digits, goes far in a step, or is so anyway."""


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in RECIPES if name not in DRAWS])
def test_a_training_on_an_actual_gpu_ends_with_the_same_weights(name, tmp_path, monkeypatch):
    exact = {**RECIPES[name], "training": {**RECIPES[name]["training"], "precision": "64-true"}}
    monkeypatch.setitem(RECIPES, name, exact)
    expected, found = (trained(name, tmp_path, where) for where in ("cpu", "cuda"))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


# --- systems ----------------------------------------------------------------------------------------------------------


ON_THE_HOST = ("helmholtz_medium",)  # it is factorized by SciPy, on the CPU
FRONTS = ("porous_medium", "stefan", "advected_step", "burgers_ramp")  # on intervals with ends


def problem_of(name: str) -> tuple[Any, Grid]:
    """Return a system with a short march, and a small box for it."""
    cls = SYSTEMS[name]
    system = cls(num_frames=3) if issubclass(cls, Evolving) else cls()
    if isinstance(system, Evolving):
        system = replace(system, save_interval=system.save_interval / 4)
    ends = "open" if name in FRONTS else "periodic"
    dims = system.signature.num_spatial_dims
    return system, Grid((64,) if dims == 1 else (24,) * dims, (1.0,) * dims, (ends,) * dims)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_draws_and_solves_there(name):
    system, grid = problem_of(name)
    expected = system.sample(2, grid, generator_for(0, "gpu"), dtype=torch.float64)
    residual = system.residual(expected)
    with pretended_gpu() as gpu:
        with gpu.watching() as events:
            found = system.sample(2, grid, generator_for(0, "gpu", device=GPU), dtype=torch.float64)
            residual_there = system.residual(found)
        # to wait for a GPU, once a frame or so, costs little
        assert ("to the host" in {what for what, _ in events}) == (name in ON_THE_HOST)
        for part in ("inputs", "coefficients", "targets", "lead_time"):
            if getattr(expected, part) is not None:
                assert gpu.has(getattr(found, part)), part
                the_same(getattr(found, part).cpu(), getattr(expected, part))
        assert gpu.has(residual_there)
        torch.testing.assert_close(residual_there.cpu(), residual, rtol=1e-5, atol=1e-6 * float(residual.abs().max()))
        moved = system.sample(2, grid, generator_for(0, "gpu"), dtype=torch.float64, device=GPU)
        assert gpu.has(moved.require_targets())


# --- what is asked afterwards -----------------------------------------------------------------------------------------


def marching(num: int = 4) -> tuple[Operator, Any]:
    system, grid = Burgers(num_frames=6, save_interval=0.125), Grid.square(32, num_spatial_dims=1)
    drawn = system.sample(num, grid, generator_for(0, "forecast"))
    samples = windows_of(drawn, Window(horizon=5))
    torch.manual_seed(0)
    operator = FNO(system.signature, FNOConfig(**tiny.NETWORK), normalization=fit_normalization(samples.load(), ()))
    return operator, samples


def test_a_rollout_there_waits_once_a_frame():
    operator, samples = marching()
    start = samples.load()
    expected = [frame.require_targets() for frame in rollout(operator, start, 4)]
    with pretended_gpu() as gpu:
        operator.to(GPU)
        start = start.to(GPU)
        list(rollout(operator, start, 4))
        with gpu.watching() as events:
            frames = list(rollout(operator, start, 4))
        told = [(what, where.partition(":")[0]) for what, where in events]
        assert told == [("to the host", "models/rollout.py")] * 4  # which samples are lost
        the_same([frame.require_targets().cpu() for frame in frames], expected)


def test_a_forecast_and_scores_are_the_same():
    operator, samples = marching()
    expected, scores = judge(operator, samples), evaluate(operator, samples, record=False)
    with pretended_gpu():
        operator.to(GPU)
        found, found_scores = judge(operator, samples), evaluate(operator, samples, record=False)
        the_same(found_scores.values, scores.values)
        the_same(found.errors, expected.errors)
