"""An operator finds channels by name; the order they come in means nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from scifm.data.normalize import fit_normalization
from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.systems.poisson import Poisson

SIGNATURE = Signature(("f", "g"), ("a", "b", "c"), ("u", "v"))
GRID = Grid((8, 10), (1.0, 2.0), (True, True))


def problems(signature: Signature = SIGNATURE, num_samples: int = 3) -> Batch:
    return Batch(
        signature,
        GRID,
        torch.randn(num_samples, 1, len(signature.inputs), *GRID.num_points),
        torch.randn(num_samples, len(signature.coefficients)),
        torch.randn(num_samples, 1, len(signature.outputs), *GRID.num_points),
        systems=("toy",) * num_samples,
    )


@pytest.fixture
def operator() -> FNO:
    return FNO(SIGNATURE, FNOConfig(**tiny.NETWORK))


def test_the_same_signature_is_passed_through(operator):
    batch = problems()
    assert operator.align(batch) is batch


def test_names_in_another_order_give_the_same_answer(operator):
    batch = problems()
    other = Signature(("g", "f"), ("c", "a", "b"), ("v", "u"))
    turned = Batch(
        other,
        GRID,
        batch.inputs[:, :, [1, 0]],
        batch.coefficients[:, [2, 0, 1]],
        batch.require_targets()[:, :, [1, 0]],
        systems=batch.systems,
    )
    assert torch.equal(operator(turned).require_targets(), operator(batch).require_targets())
    aligned = operator.align(turned)
    assert aligned.signature == SIGNATURE
    assert torch.equal(aligned.require_targets(), batch.require_targets())
    assert aligned.systems == batch.systems


def test_an_absent_coefficient_is_zero(operator):
    batch = problems()
    batch = replace(batch, coefficients=batch.coefficients * torch.tensor([1.0, 0.0, 1.0]))
    without = Batch(Signature(("f", "g"), ("a", "c"), ("u", "v")), GRID, batch.inputs, batch.coefficients[:, [0, 2]])
    assert torch.equal(operator(without).require_targets(), operator(batch).require_targets())
    none = Batch(Signature(("f", "g"), (), ("u", "v")), GRID, batch.inputs, batch.coefficients[:, :0])
    assert torch.equal(operator.align(none).coefficients, torch.zeros(3, 3))


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (Signature(("f", "g", "h"), ("a", "b", "c"), ("u", "v")), "the data also hold .*'h'"),
        (Signature(("f", "g"), ("a", "d"), ("u", "v")), "the data also hold .*'d'"),
        (Signature(("f", "g"), ("a",), ("u", "w")), "the data also hold .*'w'"),
        (Signature(("f",), ("a", "b", "c"), ("u", "v")), "the data lack .*'g'"),
        (Signature(("f", "g"), ("a", "b", "c"), ("u",)), "answers .*'v'.*the data hold .*'u'"),
    ],
)
def test_names_that_do_not_fit_are_refused(operator, signature, words):
    with pytest.raises(SignatureError, match=words):
        operator.align(problems(signature))


def test_a_wall_is_extended_unless_the_network_does_not_ask_for_it(operator):
    batch = problems()
    walled = replace(batch, grid=Grid(GRID.num_points, GRID.extent, (True, False)))
    seen = []
    operator.network = lambda encoded: (
        seen.append(encoded.inputs.shape) or encoded.inputs[:, :, :1].expand(-1, -1, 2, -1, -1)
    )
    operator(walled)
    type(operator).needs_periodic, before = False, True
    try:
        operator(walled)
    finally:
        type(operator).needs_periodic = before
    (rows, columns) = GRID.num_points
    assert [tuple(shape[-2:]) for shape in seen] == [(rows, columns + -(-columns // 4)), (rows, columns)]


def test_answers_come_back_in_physical_size():
    """A network that always says 1 must answer with the scale of the normalization."""

    class One(Operator):
        def network(self, encoded):
            return torch.ones_like(encoded.inputs)

    batch = tiny.batch(5)
    normalization = fit_normalization(batch, Poisson.homogeneities)
    answer = One(Poisson.signature, OperatorConfig(), normalization=normalization)(batch).require_targets()
    scale = normalization.encode(batch).output_scale
    assert torch.equal(answer, scale.expand_as(answer))
    assert len(set(answer[:, 0, 0, 0, 0].tolist())) == 5, "each sample has its own size"


def test_a_scaled_problem_has_the_scaled_answer_whatever_the_weights():
    batch = tiny.batch(3, dtype=torch.float64)
    normalization = fit_normalization(batch, Poisson.homogeneities)
    operator = FNO(Poisson.signature, FNOConfig(**tiny.NETWORK), normalization=normalization).double()
    base = operator(batch).require_targets()
    louder = operator(replace(batch, inputs=batch.inputs * 5)).require_targets()
    stiffer = operator(replace(batch, coefficients=batch.coefficients * 4)).require_targets()
    torch.testing.assert_close(louder, base * 5, rtol=0, atol=1e-12 * float(base.detach().abs().max()))
    torch.testing.assert_close(stiffer, base / 4, rtol=0, atol=1e-12 * float(base.detach().abs().max()))


def test_predict_answers_in_pieces_without_gradients(operator):
    batch = problems(num_samples=5)
    operator.train()
    pieces = operator.predict(batch, batch_size=2).require_targets()
    assert operator.training
    assert not pieces.requires_grad
    torch.testing.assert_close(pieces, operator(batch).require_targets())


def test_predict_leaves_every_part_in_its_mode_whatever_happens(operator, monkeypatch):
    operator.train()
    frozen = next(iter(operator.children())).eval()
    operator.predict(problems(num_samples=2))
    monkeypatch.setattr(operator, "network", lambda encoded: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        operator.predict(problems(num_samples=2))
    assert operator.training
    assert not frozen.training


def test_predict_works_in_the_precision_of_the_weights(operator):
    batch = problems()
    answer = operator.double().predict(batch)
    assert torch.equal(answer.inputs, batch.inputs)
    assert answer.require_targets().dtype == torch.float32
    exact = operator(batch.to(dtype=torch.float64)).require_targets()
    assert torch.equal(answer.require_targets(), exact.float())


def test_an_operator_without_a_network_says_so():
    with pytest.raises(NotImplementedError, match="does not say how it maps fields"):
        Operator(SIGNATURE, OperatorConfig())(problems())
