"""Which equations samples are of, by the record of where they come from; training by a recipe that wants terms."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from scifm.data.equations import equations_for, equations_of, told_of
from scifm.data.mixtures import Member, MixtureOrigin
from scifm.data.origin_config import SystemConfig
from scifm.data.origins import SystemOrigin
from scifm.data.sample_recipe import SampleRecipe
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.grid import Grid
from scifm.fields.term import Term
from scifm.models.axial_transformer import AxialTransformerConfig
from scifm.models.equations import taught
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.systems.advection import Advection
from scifm.systems.burgers import Burgers
from scifm.systems.catalog import find_system
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.kdv import KortewegDeVries
from scifm.systems.kuramoto_sivashinsky import KuramotoSivashinsky
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune
from scifm.training.pretrain import pretrain

GRID = Grid((32,), (1.0,), (True,))
NETWORK = {"width": 16, "num_heads": 2, "num_blocks": 1, "patch": 8, "condition_width": 8, "terms": True}
BURGERS_AND_KDV = [{"name": "burgers"}, {"name": "kdv"}]


def recipe(**settings):
    tree = {
        "name": "terms",
        "mixture": BURGERS_AND_KDV,
        "data": {"num_points": 32, "num_validation_samples": 4, "num_normalization_samples": 8, "num_samples": 8},
        "model": {"kind": "axial_transformer", "network": NETWORK},
        "training": {"num_steps": 2, "batch_size": 4, "accelerator": "cpu", "validate_every": 2},
    }
    return {**tree, **settings}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return pretrain(recipe(), out=tmp_path_factory.mktemp("runs"))


def told(config: AxialTransformerConfig, *, dims: int = 1):
    return SimpleNamespace(config=config, signature=SimpleNamespace(num_spatial_dims=dims))


def test_a_mixture_has_those_of_all_its_members():
    origins = [SystemOrigin.of(system, GRID) for system in (Burgers(), KortewegDeVries())]
    mixture = MixtureOrigin(tuple(map(Member, origins)))
    expected = {"burgers": Burgers().terms, "kdv": KortewegDeVries.terms}
    assert equations_of(mixture.describe()) == expected
    assert equations_of(origins[0].describe()) == {"burgers": Burgers().terms}


def test_options_of_the_system_count():
    about = SystemOrigin.of(Helmholtz(sign="slides"), Grid.square(16)).describe()
    assert equations_of(about)["helmholtz"][1].factor == -1.0
    two = [{"system": SystemConfig.of(Helmholtz(sign=sign)).to_dict()} for sign in ("code", "slides")]
    with pytest.raises(ConfigError, match="Two members are called 'helmholtz' and have other terms"):
        equations_of({"members": two})


def test_what_declares_none_is_refused_unless_somebody_says_them():
    euler = {"system": SystemConfig.of(find_system("euler")()).to_dict()}
    with pytest.raises(ConfigError, match="'euler' declares no terms of its equation, and terms are wanted of every"):
        equations_of(euler)
    own = {"euler": (Term("flux", ("density",), of="density"),)}
    assert equations_of(euler, known=own) == own
    with pytest.raises(ConfigError, match="The store 'ocean' does not say which system made it"):
        equations_of({"store": "ocean"})
    assert equations_of({"store": "ocean"}, known=own) == {}


def test_an_operator_is_told_what_samples_say_they_are_of():
    wants = AxialTransformerConfig(terms=True, equations={"burgers": Burgers().terms})
    by_name = {"systems": ["kdv", "burgers", "euler", "nobody", ""]}
    assert equations_for(told(wants), by_name) == {"kdv": KortewegDeVries.terms}
    assert equations_for(told(wants, dims=3), {"systems": ["advection"]}) == {
        "advection": Advection(num_spatial_dims=3).terms
    }
    assert equations_for(told(AxialTransformerConfig()), by_name) == {}
    about = SystemOrigin.of(Helmholtz(sign="slides"), Grid.square(16)).describe()
    assert equations_for(told(wants, dims=2), about) == {"helmholtz": Helmholtz(sign="slides").terms}


def test_who_asks_leaves_the_operator_as_it_was(run):
    operator = load_operator(run)
    known = operator.config
    damped = (*Burgers().terms, Term("derivative_xxx", ("velocity",), of="velocity", coefficient="dispersion"))
    taught(operator, {"burgers": damped})
    samples = Burgers(num_frames=2).sample(2, GRID)
    about = SystemOrigin.of(Burgers(num_frames=2), GRID).describe()
    own, given = (told_of(operator, said) for said in ({"systems": ["burgers"]}, about))
    assert own is operator  # a name it knows
    assert given is not operator  # the record says which terms these samples have
    assert operator.config.equations["burgers"] == damped
    assert given.config == known
    answers = [each.answers(samples).require_targets() for each in (load_operator(run), given, operator)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])  # dispersion is 0 in them


def test_by_recipe_alone_the_network_knows_the_terms_of_its_systems(run):
    operator = load_operator(run)
    assert operator.config.terms == "beside"
    assert operator.config.equations == {"burgers": Burgers().terms, "kdv": KortewegDeVries.terms}
    samples, origin = SampleRecipe(num_samples=2).samples_for(run.path)
    assert evaluate(run, samples, origin=origin, record=False).mean() > 0
    again = pretrain(recipe(), out=run.path.parent)  # the record settles to the same folder
    assert again.path == run.path


def test_what_it_was_not_told_is_refused_in_words(run):
    batch = KuramotoSivashinsky(num_frames=2).sample(2, GRID)
    with pytest.raises(
        SignatureError, match=r"antidiffusion laplacian\(velocity\) has a coefficient that the operator"
    ):
        evaluate(run, batch, record=False)
    nobody = Burgers(num_frames=2).sample(2, GRID)
    with pytest.raises(SignatureError, match="does not say which systems its samples are of"):
        load_operator(run)(type(nobody)(**{**vars(nobody), "systems": ()}))


def test_arrays_say_their_system_by_name(run):
    operator = load_operator(run)
    batch = Burgers(num_frames=2).sample(2, GRID)
    arrays = {"velocity": batch.inputs[:, 0, 0], "viscosity": batch.coefficients[:, 0], "dispersion": 0.0}
    made = operator.predict(arrays, lead_time=0.05, system="burgers")["velocity"]
    torch.testing.assert_close(made, operator.answers(batch).require_targets()[:, 0, 0])
    with pytest.raises(SignatureError, match="does not say which systems"):
        operator.predict(arrays, lead_time=0.05)
    plain = pretrain(
        recipe(model={"kind": "axial_transformer", "network": {**NETWORK, "terms": False}}), out=run.path.parent
    )
    with pytest.raises(ConfigError, match="system = 'burgers' would have no effect: the operator is not told"):
        load_operator(plain).predict(arrays, lead_time=0.05, system="burgers")


def test_fine_tuned_it_knows_the_new_equation_and_the_old_ones_that_are_left(run):
    how = {"num_samples": 2, "learning_rates": [1e-3], "training": {"num_steps": 1, "batch_size": 2}}
    new = finetune(run, KuramotoSivashinsky(num_frames=3), out=run.path.parent, **how)
    operator = load_operator(new)
    assert operator.config.equations == {
        "burgers": Burgers().terms,
        "kuramoto_sivashinsky": KuramotoSivashinsky.terms,
    }
    samples = SampleRecipe(num_samples=2).origin_for(find_model(new.path)).draw(2, "test")
    assert operator.answers(samples).require_targets().isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixture": [{"name": "poisson"}, {"name": "euler"}]}, "steady"),
        ({"mixture": [{"name": "euler"}]}, "'euler' declares no terms"),
        (
            {"model": {"kind": "axial_transformer", "network": {**NETWORK, "equations": {
                "kdv": [{"operator": "laplacian", "fields": ["velocity"], "of": "velocity"}]}}}},
            "model.network.equations says other terms of 'kdv' than the system itself",
        ),
        ({"model": {"kind": "fno", "network": {"terms": True}}}, "'terms' is unknown"),
    ],
)  # fmt: skip
def test_recipes_that_do_not_fit_are_told(settings, message, tmp_path):
    with pytest.raises((ConfigError, SignatureError), match=message):
        pretrain(recipe(**settings), out=tmp_path)


def test_steady_systems_have_terms_too(tmp_path):
    settings = {"mixture": [], "system": {"name": "poisson"}}
    data = {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8, "num_samples": 8}
    operator = load_operator(pretrain(recipe(**settings, data=data), out=tmp_path))
    assert operator.config.equations == {"poisson": Poisson.terms}
    batch = Poisson().sample(2, Grid.square(16))
    assert operator.answers(batch).require_targets().isfinite().all()
