"""An operator that is told the terms of each sample's equation: what it makes of them, and what it is told later."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scifm.config import build_config
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.term import Term
from scifm.models.axial_transformer import AxialTransformer, AxialTransformerConfig
from scifm.models.equations import taught
from scifm.models.registry import load_operator
from scifm.models.surgery import renamed, with_channels

NAMES = Signature(("u",), ("viscosity", "diffusivity", "speed"), ("u",), 1, evolves=True)
GRID = Grid((16,), (1.0,), (True,))
STEEPENS = Term("advection", ("u", "u"), of="u", factor=-1.0)
EQUATIONS = {
    "burgers": (STEEPENS, Term("laplacian", ("u",), of="u", coefficient="viscosity")),
    "heat": (Term("laplacian", ("u",), of="u", coefficient="diffusivity"),),
    "drift": (Term("derivative_x", ("u",), of="u", coefficient="speed", factor=-1.0),),
}
BOTH = (
    Term("laplacian", ("u",), of="u", coefficient="diffusivity"),
    Term("derivative_x", ("u",), of="u", coefficient="speed", factor=-1.0),
)
SMALL = {"width": 16, "num_heads": 2, "num_blocks": 1, "patch": 4, "condition_width": 8}


def transformer(names: Signature = NAMES, **settings) -> AxialTransformer:
    torch.manual_seed(0)
    config = AxialTransformerConfig(**{**SMALL, "terms": "instead", "equations": EQUATIONS, **settings})
    return AxialTransformer(names, config).double()


def asked(*systems: str, names: Signature = NAMES, **coefficients: float) -> Batch:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(1, 1, 1, 16, generator=generator, dtype=torch.float64).expand(len(systems), -1, -1, -1)
    numbers = torch.tensor([[coefficients.get(name, 0.0) for name in names.coefficients]], dtype=torch.float64)
    return Batch(names, GRID, inputs, numbers.expand(len(systems), -1), systems=systems)


def answered(operator: AxialTransformer, batch: Batch) -> torch.Tensor:
    return operator.answers(batch).require_targets()


def test_one_term_is_one_token_whatever_its_coefficient_is_called():
    operator = taught(transformer(), {"smooth": (Term("laplacian", ("u",), of="u", coefficient="viscosity"),)})
    heat, same = answered(operator, asked("heat", diffusivity=0.3)), answered(operator, asked("smooth", viscosity=0.3))
    assert torch.equal(heat, same)
    assert not torch.allclose(heat, answered(operator, asked("heat", diffusivity=0.2)))
    assert not torch.allclose(heat, answered(operator, asked("drift", speed=0.3)))
    beside = taught(transformer(terms="beside"), {"smooth": operator.config.equations["smooth"]})
    assert not torch.allclose(
        answered(beside, asked("heat", diffusivity=0.3)), answered(beside, asked("smooth", viscosity=0.3))
    )


def test_a_term_whose_coefficient_is_zero_is_absent():
    operator = taught(transformer(), {"both": BOTH})
    for alone, numbers in (("heat", {"diffusivity": 0.3}), ("drift", {"speed": 0.7})):
        assert torch.equal(answered(operator, asked("both", **numbers)), answered(operator, asked(alone, **numbers)))
    weak = answered(operator, asked("both", diffusivity=0.3, speed=1e-9))  # it fades out before it is gone
    assert torch.allclose(weak, answered(operator, asked("heat", diffusivity=0.3)), rtol=0, atol=1e-7)


def test_terms_count_by_their_sum_in_any_order_and_by_their_sign():
    operator = taught(transformer(), {"both": BOTH, "turned": BOTH[::-1]})
    numbers = {"diffusivity": 0.3, "speed": 0.7}
    both, turned = (answered(operator, asked(name, **numbers)) for name in ("both", "turned"))
    assert torch.allclose(both, turned, rtol=0, atol=1e-13)
    taught(operator, {"turned": (BOTH[0], replace(BOTH[1], factor=1.0))})
    assert not torch.allclose(both, answered(operator, asked("turned", **numbers)))
    assert torch.equal(both, answered(operator, asked("both", **numbers)))


def test_the_sum_of_tokens_is_what_it_says():
    """By hand: vectors of operator, fields and equation, what is told of the strength, through the small network."""
    tokens = transformer().terms
    encoded = Normalization.identity(num_inputs=1, num_coefficients=3, num_outputs=1).encode(
        asked("burgers", viscosity=0.4)
    )
    words = (["advection", "derivative_x", "laplacian"], ["u"])
    assert tokens.usual.tolist() == [1.0, 1.0, 1.0]
    expected = 0.0
    for term, strong, count in zip(EQUATIONS["burgers"], (-1.0, 0.4), (2, 1), strict=True):
        told = torch.tensor([strong, strong, abs(strong)], dtype=torch.float64)
        told = torch.stack([told[0].asinh(), told[1].sign(), told[2].log() / 2])
        hidden = tokens.operators[words[0].index(term.operator)] + count * tokens.fields[0] + tokens.of[0]
        share = abs(strong) / (1 + abs(strong))
        expected = expected + share * tokens.out(torch.nn.functional.gelu(hidden + tokens.strength(told)))
    torch.testing.assert_close(tokens(encoded)[0], expected, rtol=0, atol=1e-12)


def test_the_usual_strength_of_an_operator_is_that_of_its_coefficients():
    shifts, scales = (0.0, 3e-3, 0.5), (0.02, 4e-3, 1e-9)
    fitted = replace(
        Normalization.identity(num_inputs=1, num_coefficients=3, num_outputs=1),
        coefficient_shift=shifts, coefficient_scale=scales,
    )  # fmt: skip
    operator = AxialTransformer(NAMES, transformer().config, normalization=fitted)
    expected = [1.0, 0.5, (0.02 * 5e-3) ** 0.5]
    torch.testing.assert_close(operator.terms.usual, torch.tensor(expected))


def test_samples_of_several_systems_are_answered_as_each_alone():
    operator = transformer()
    whole = answered(operator, asked("heat", "burgers", "drift", diffusivity=0.3, viscosity=0.1, speed=0.5))
    for row, name in enumerate(("heat", "burgers", "drift")):
        alone = answered(operator, asked(name, diffusivity=0.3, viscosity=0.1, speed=0.5))
        assert torch.allclose(whole[row : row + 1], alone, rtol=0, atol=1e-12)


def test_whoever_does_not_say_what_samples_are_of_is_told():
    operator = transformer()
    with pytest.raises(SignatureError, match=r"does not say which systems its samples are of.*burgers, heat, drift"):
        answered(operator, replace(asked("heat"), systems=()))
    with pytest.raises(SignatureError, match="does not know the terms of 'kdv', only those of burgers, heat, drift"):
        answered(operator, asked("kdv"))
    one = transformer(equations={"heat": EQUATIONS["heat"]})
    numbers = {"diffusivity": 0.3}
    assert torch.equal(
        answered(one, replace(asked("heat", **numbers), systems=())), answered(one, asked("heat", **numbers))
    )


def test_what_is_told_later_changes_no_answer_and_is_kept(tmp_path):
    operator, numbers = transformer(), {"diffusivity": 0.3, "speed": 0.7, "viscosity": 0.1}
    before = answered(operator, asked("heat", "burgers", "drift", **numbers))
    fourth = Term("bilaplacian", ("w",), of="u", coefficient="speed")
    with pytest.raises(SignatureError, match="equation of 'damped' has 'bilaplacian', of which the operator was never"):
        taught(operator, {"both": BOTH, "damped": (STEEPENS, fourth)})
    with pytest.raises(SignatureError, match="coefficient that the operator does not know; it knows viscosity"):
        taught(operator, {"other": (replace(STEEPENS, coefficient="nu"),)})
    assert set(operator.config.equations) == set(EQUATIONS)  # what was refused left nothing behind
    taught(operator, {"both": BOTH, "damped": (STEEPENS, fourth)}, generator=torch.Generator().manual_seed(3))
    assert torch.equal(answered(operator, asked("heat", "burgers", "drift", **numbers)), before)
    assert not torch.allclose(answered(operator, asked("damped", **numbers)), before[1:2])
    operator.save_pretrained(tmp_path / "model")
    again = load_operator(tmp_path / "model")
    assert again.config == operator.config
    batch = asked("both", "damped", "burgers", **numbers)
    assert torch.equal(answered(again, batch), answered(operator, batch))


def test_to_other_names_words_are_carried_over_and_old_answers_stay():
    operator, numbers = transformer(), {"diffusivity": 0.3, "speed": 0.7, "viscosity": 0.1}
    more = Signature(("u",), (*NAMES.coefficients, "damping"), ("u",), 1, evolves=True)
    damped = {"a_damped": (Term("bilaplacian", ("u",), of="u", coefficient="damping", factor=-1.0),)}
    blank = Normalization.identity(num_inputs=1, num_coefficients=4, num_outputs=1)
    config = operator.config.knowing(damped, signature=more)
    generator = torch.Generator().manual_seed(0)
    larger, _ = with_channels(operator, more, GRID, blank, generator=generator, config=config)
    larger = larger.double()
    batch = asked("heat", "burgers", "drift", **numbers)
    assert torch.allclose(answered(larger, batch), answered(operator, batch), rtol=0, atol=1e-12)
    # names that are gone take the systems with them that need them
    fewer = Signature(("u",), ("speed", "damping"), ("u",), 1, evolves=True)
    config = operator.config.knowing(damped, signature=fewer)
    assert set(config.equations) == {"drift", "a_damped"}
    blank = Normalization.identity(num_inputs=1, num_coefficients=2, num_outputs=1)
    smaller, _ = with_channels(operator, fewer, GRID, blank, generator=generator, config=config)
    drift = asked("drift", names=fewer, speed=0.7)
    assert torch.allclose(
        answered(smaller.double(), drift), answered(operator, asked("drift", speed=0.7)), rtol=0, atol=1e-12
    )


def test_other_names_for_the_same_change_nothing(tmp_path):
    operator, numbers = transformer(), {"diffusivity": 0.3, "speed": 0.7}
    before = answered(operator, asked("heat", "drift", **numbers))
    renamed(operator, {"a_temperature": "u", "kappa": "diffusivity"})
    assert operator.config.equations["heat"][0].told == "+ kappa laplacian(a_temperature)"
    names = operator.signature
    batch = asked("heat", "drift", names=names, kappa=0.3, speed=0.7)
    assert torch.equal(answered(operator, batch), before)
    operator.save_pretrained(tmp_path / "model")
    assert torch.equal(answered(load_operator(tmp_path / "model"), batch), before)


def test_every_weight_has_a_gradient():
    operator = transformer(terms="beside").train()
    batch = asked("heat", "burgers", "drift", diffusivity=0.3, viscosity=0.1, speed=0.5)
    operator(batch).targets.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in operator.parameters())
    assert all((table.grad != 0).any(1).all() for table in (operator.terms.operators, operator.terms.fields))


def test_terms_are_no_setting_of_a_network_that_is_not_told_them():
    plain = AxialTransformerConfig(**SMALL)
    assert not {"terms", "equations"} & set(plain.to_dict())  # the names of runs stay what they were
    assert plain.knowing(EQUATIONS) is plain
    operator = AxialTransformer(NAMES, plain)
    assert taught(operator, EQUATIONS).config is plain
    assert AxialTransformerConfig(terms=True).terms == "beside"
    assert AxialTransformerConfig(terms=False).terms is None
    assert (
        AxialTransformerConfig(terms="beside", equations=EQUATIONS).architecture()
        == AxialTransformerConfig(terms="beside", width=192).architecture()
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"terms": "alone"}, "'terms' = 'alone': Input should be 'beside' or 'instead'"),
        ({"equations": {"heat": []}}, "equations = .* would have no effect: they are told where terms is"),
        ({"terms": True, "equations": {"heat": [{"operator": "laplacian"}]}}, r"'equations.heat.0.fields' is missing"),
        (
            {"terms": True, "equations": {"heat": [{"operator": "one", "fields": [], "of": "u", "factor": 0.0}]}},
            "factor of a term is finite and not zero",
        ),
        (
            {"terms": True, "equations": {"heat": [{"operator": "one", "fields": [], "of": "u", "sign": 1}]}},
            "sign",
        ),
    ],
)
def test_settings_that_do_not_fit_are_told(settings, told):
    with pytest.raises((ConfigError, SignatureError), match=told):
        build_config(AxialTransformerConfig, settings)


def test_terms_of_no_system_are_none():
    with pytest.raises(ConfigError, match="terms = 'beside' wants the terms of every system, and there are none"):
        AxialTransformer(NAMES, AxialTransformerConfig(terms=True))
