"""No setting without effect in silence: every one, given another value, changes what is done or is refused by name.

A table names another value for every setting of a configuration. What is done is taken to pieces that are quick to
compare: a run folder without the words of its recipe, or the jobs of a study. A setting that is new has to be entered.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evolving
import tiny
from scifm.config import Config, build_config
from scifm.data.formats.mapping import DataMapping
from scifm.data.generate import generate
from scifm.data.importing import open_data
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import SystemOrigin
from scifm.errors import ConfigError, SciFMError
from scifm.fields.normalization import Normalization
from scifm.models.continuous import ContinuousConfig
from scifm.models.fno import FNOConfig
from scifm.models.neighbours import NeighbourCorrection, corrected
from scifm.models.neuralop_fno import NeuralopFNOConfig
from scifm.studies.jobs import Pretraining, draw_test, example_jobs, pool_of
from scifm.studies.planner import PlanRecipe
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import plan_jobs
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loop import TrainingConfig
from scifm.training.pretrain import ModelConfig, PretrainRecipe, build_operator, pretrain, training_source

EFFECT = None  # the setting changes what is done; a text: it is refused, and the refusal holds these words


def merged(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the tree with the setting at ``a.b`` replaced."""
    first, _, rest = path.partition(".")
    return {**tree, first: merged(tree.get(first, {}), rest, value) if rest else value}


def settings_of(cls: type[Config]) -> set[str]:
    return set(cls.model_fields)


def digest_of(batch) -> str:
    made = hashlib.sha256()
    for tensor in (batch.inputs, batch.coefficients, batch.require_targets(), batch.loss_weights, batch.lead_time):
        made.update(b"-" if tensor is None else tensor.contiguous().numpy().tobytes())
    return made.hexdigest()


def done_in(folder: Path) -> dict[str, str]:
    """Return what a run left: every file's hash, its log without times; not the words of its recipe."""
    found = {"": folder.name.rpartition("-")[0]}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.suffix == ".safetensors":
            found[name] = "" if "state/" in name else hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.name in ("metrics.jsonl", "outcome.json", "subset.json", "trials.json"):
            found[name] = re.sub(r'"seconds": [0-9.e-]+', "", file.read_text())
    return found


# --- pre-training -----------------------------------------------------------------------------------------------------

TRAINING: dict[str, Any] = {
    "num_steps": (4, EFFECT),
    "batch_size": (3, EFFECT),
    "micro_batches": (2, EFFECT),
    "learning_rate": (2e-3, EFFECT),
    "schedule": ("cosine", EFFECT),
    "warmup_fraction": (0.9, EFFECT),
    "weight_decay": (0.5, EFFECT),
    "optimizer": ("nadam", EFFECT),
    "objective": ("mean_squared_error", EFFECT),
    "validation_metric": ("vrmse", EFFECT),
    "gradient_clip": (1e-6, EFFECT),
    "validate_every": (1, EFFECT),
    "log_every": (1, EFFECT),
    "checkpoint_every": (1, EFFECT),
    "keep_every": (1, EFFECT),
    "patience": (1, EFFECT),
    "ema_decay": (0.5, EFFECT),
    "precision": ("64-true", EFFECT),
}
NO_TRAINING = {
    "tf32": "only NVIDIA's GPUs have it; its text says so",
    "accelerator": "another device computes the same",
    "strategy": "how several processes hold the weights; the results are the same",
    "recompute": "the same numbers from less memory",
    "loggers": "who watches changes no result; what they are told is tested in training/test_loggers.py",
}
EASIER = {"knob": "anisotropy", "values": [1.5], "steps": 2}
DATA: dict[str, dict[str, tuple[Any, str | None]]] = {
    "system": {
        "num_points": (20, EFFECT),
        "extent": (2.0, EFFECT),
        "boundary": ("wall", "Spectral calculus needs a grid that is periodic"),
        "store": ("somewhere", "exactly one"),
        "mapping": (evolving.MAPPING.to_dict(), "data.mapping"),
        "history": (2, "data.history"),
        "horizon": (2, "data.horizon"),
        "stride": (2, "data.stride"),
        "leads": (2, "data.leads"),
        "observed": (True, "data.observed"),
        "stations": (4, "data.stations"),
        "station_spacing": (2, "data.station_spacing"),
        "windows_per_trajectory": (2, "data.windows_per_trajectory"),
        "same_knobs": (2, EFFECT),
        "curriculum": (EASIER, EFFECT),
        "stream_blocks": (2, EFFECT),
        "temperature": (2.0, "data.temperature"),
        "num_samples": (6, EFFECT),
        "num_solved": (2, "num_solved"),
        "num_validation_samples": (7, EFFECT),
        "num_normalization_samples": (5, EFFECT),
    },
    "store": {
        "num_points": (20, "data.num_points"),
        "extent": (2.0, "data.extent"),
        "boundary": ("wall", "data.boundary"),
        "store": ("somewhere", "somewhere"),
        "mapping": (evolving.MAPPING.to_dict(), "heat"),  # in a store of our own the array is called otherwise
        "history": (2, EFFECT),
        "horizon": (2, EFFECT),
        "stride": (2, EFFECT),
        "leads": (2, EFFECT),
        "observed": (True, "observed = true is of several targets"),
        "stations": (4, EFFECT),
        "station_spacing": (2, "say how many"),
        "windows_per_trajectory": (2, "data.windows_per_trajectory"),
        "same_knobs": (2, "data.same_knobs"),
        "curriculum": (EASIER, "data.curriculum"),
        "stream_blocks": (2, "data.stream_blocks"),
        "temperature": (2.0, "data.temperature"),
        "num_samples": (6, "num_samples"),
        "num_solved": (2, "num_solved"),
        "num_validation_samples": (7, EFFECT),
        "num_normalization_samples": (5, EFFECT),
    },
}
DATA["mixture"] = {**DATA["system"], "curriculum": (EASIER, "data.curriculum")}
RECIPE: dict[str, tuple[Any, str | None]] = {
    "name": ("other", EFFECT),
    "seed": (5, EFFECT),
    "held_out": (["poisson"], "held_out"),
    "system.name": ("helmholtz", EFFECT),
    "system.knobs": ({"anisotropy": [2, 3]}, EFFECT),
    "system.options": ({"zz": 1}, "zz"),
    "model.kind": ("torch", "torch"),
    "model.size": ("small", "size or network"),
    "model.network": ({**tiny.NETWORK, "width": 6}, EFFECT),
    "model.normalization": ("constant", EFFECT),
    "model.num_members": (2, EFFECT),
    "model.num_heads": (2, EFFECT),
    "model.dropout": (0.2, "num_heads"),
    "model.hold": ({"mean": {"solution": 1.0}}, EFFECT),
}
MIXED: dict[str, tuple[Any, str | None]] = {
    "name": ("helmholtz", EFFECT),
    "knobs": ({"anisotropy": [2, 3]}, EFFECT),
    "options": ({"zz": 1}, "zz"),
    "store": ("somewhere", "either the name of a system or a store"),
    "mapping": (evolving.MAPPING.to_dict(), "mapping"),
    "weight": (5.0, EFFECT),
    "loss_weight": (5.0, EFFECT),
}
MEMBERS = [{"name": "poisson", "knobs": {"anisotropy": [1, 5]}}, {"name": "advection_diffusion"}]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    return {
        "steady": generate(Poisson(), num_samples={"train": 8, "valid": 2}, num_points=16, path=root / "steady"),
        "evolving": evolving.store(root),
    }


def base(kind: str, stores) -> dict[str, Any]:
    tree = tiny.recipe(training={"num_steps": 6, "log_every": 3, "schedule": "one_cycle"})
    if kind == "mixture":
        return {**{k: v for k, v in tree.items() if k != "system"}, "mixture": MEMBERS}
    if kind == "store":
        return json.loads(json.dumps(evolving.recipe(data={"store": str(stores["evolving"].path)}).to_dict())) | {
            "data": {"store": str(stores["evolving"].path), "num_validation_samples": 4, "num_normalization_samples": 8}
        }
    return tree


@pytest.fixture(scope="module")
def pretrained(stores, tmp_path_factory):
    """Return a function: what a pre-training of a tree does; the undisturbed ones once."""
    known: dict[str, dict[str, str]] = {}

    def do(tree: dict[str, Any]) -> dict[str, str]:
        key = json.dumps(tree, sort_keys=True)
        if key not in known:
            known[key] = done_in(pretrain(tree, out=tmp_path_factory.mktemp("runs")).path)
            known[key]["data"] = digest_of(training_source(PretrainRecipe.read(tree)).batch(0))
        return known[key]

    return do


def check(do, before: dict[str, Any], after: dict[str, Any], refusal: str | None) -> None:
    expected = do(before)
    if refusal is not None:
        with pytest.raises(SciFMError, match=re.escape(refusal)):
            do(after)
    else:
        assert do(after) != expected, "the setting was passed over in silence"


@pytest.mark.parametrize("name", TRAINING)
def test_settings_of_training(name, pretrained, stores):
    before, (value, refusal) = base("system", stores), TRAINING[name]
    if name == "keep_every":  # what is kept shows where more states were saved than are kept anyway
        before = merged(before, "training.checkpoint_every", 1)
    if name == "patience":  # a rate that makes things worse, so that there is something to stop
        before = merged(merged(before, "training.learning_rate", 1.0), "training.validate_every", 1)
    check(pretrained, before, merged(before, f"training.{name}", value), refusal)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in DATA.items() for name in table])
def test_settings_of_data(kind, name, pretrained, stores):
    value, refusal = DATA[kind][name]
    check(pretrained, base(kind, stores), merged(base(kind, stores), f"data.{name}", value), refusal)


@pytest.mark.parametrize("path", RECIPE)
def test_settings_of_a_pretraining(path, pretrained, stores):
    before, (value, refusal) = base("system", stores), RECIPE[path]
    after = merged(before, path, value)
    if path == "system.name":
        after["system"] = {"name": value}
    check(pretrained, before, after, refusal)


@pytest.mark.parametrize("name", MIXED)
def test_settings_of_a_mixture(name, pretrained, stores):
    before, (value, refusal) = base("mixture", stores), MIXED[name]
    entry = {**MEMBERS[0], name: value} if name != "name" else {"name": value}
    check(pretrained, before, {**before, "mixture": [entry, MEMBERS[1]]}, refusal)
    if name.endswith("weight"):
        with pytest.raises(ConfigError, match=rf"{name} = 5.0 would have no effect"):
            pretrain({**before, "mixture": [entry]})


@pytest.mark.parametrize(
    ("path", "tree"),
    [
        ("data.stride", lambda stores: {"data": {"store": str(stores["steady"].path), "stride": 2}}),
        ("data.stream_blocks", lambda _: tiny.recipe(data={"num_samples": 6, "stream_blocks": 2})),
        ("data.stream_blocks", lambda _: tiny.recipe(data={"stream_blocks": 5})),  # of a batch of 4
        ("warmup_fraction", lambda _: tiny.recipe(training={"schedule": "constant", "warmup_fraction": 0.3})),
    ],
)
def test_settings_that_do_not_go_together(path, tree, stores, tmp_path):
    with pytest.raises(ConfigError, match=path.split(".")[-1]):
        pretrain(tree(stores), out=tmp_path)


def test_every_setting_of_pretraining_is_entered():
    assert set(TRAINING) | set(NO_TRAINING) == settings_of(TrainingConfig)
    assert not set(TRAINING) & set(NO_TRAINING)
    for table in DATA.values():
        assert set(table) == settings_of(DataConfig)
    assert set(MIXED) == settings_of(MixtureConfig)
    tables = {"system": SystemConfig, "model": ModelConfig}
    entered = {path for path in RECIPE if "." not in path} | set(tables) | {"mixture", "data", "training"}
    assert entered == settings_of(PretrainRecipe)
    for table, cls in tables.items():
        assert {path.partition(".")[2] for path in RECIPE if path.startswith(f"{table}.")} == settings_of(cls)


# --- adapting ---------------------------------------------------------------------------------------------------------

ADAPT: dict[str, tuple[Any, str | None, str | None]] = {  # refusals of fine-tuning, and of training from scratch
    "num_samples": (5, EFFECT, EFFECT),
    "seed": (7, EFFECT, EFFECT),
    "learning_rates": ((2e-3, 1e-2), EFFECT, EFFECT),
    "trial_budget": (1.0, EFFECT, EFFECT),
    "max_doublings": (1, EFFECT, EFFECT),
    "held_out": (0.5, EFFECT, EFFECT),
    "min_scored": (1, EFFECT, EFFECT),
    "interpolation": ((0.5,), EFFECT, "interpolation"),
    "stride": (2, "stride = 2", "stride = 2"),
    "history": (2, "history = 2", "history = 2"),
    "horizon": (2, "horizon = 2", "horizon = 2"),
    "leads": (2, "leads = 2", "leads = 2"),
    "observed": (True, "observed", "observed"),
    "stations": (4, "stations = 4", "stations = 4"),
    "station_spacing": (2, "station_spacing = 2", "station_spacing = 2"),
    "rename": ({"forcing": "source"}, "source", "rename"),
    "method": ("projection", EFFECT, "method"),
}
NO_ADAPT = {  # tests of fine-tuning and of the choice have them; from scratch there is nothing to keep
    "try_zero_shot": "whether keeping the weights is a candidate",
    "refit_coefficients": "whether fitting constants anew is a candidate",
}
ADAPT_TRAINING = {"learning_rate": 2e-3, "patience": 1, "validation_metric": "vrmse", "strategy": "fsdp"}
NO_ADAPT_TRAINING = {"validate_every": "nothing validates while adapting; its text says so, and recipes give it"}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    parent, known = tiny.finished_run(tmp_path_factory.mktemp("parents")), {}
    pool = SystemOrigin.of(Poisson(), tiny.GRID).pool(12, 0)
    basis = {
        "num_samples": 6,
        "learning_rates": (1e-3, 1e-2),
        "min_scored": 2,
        "training": {**tiny.ADAPTING, "num_steps": 8},
    }

    def do(way, **changes: Any) -> dict[str, str]:
        key = json.dumps([way.__name__, changes], sort_keys=True)
        if key not in known:
            known[key] = done_in(way(parent, pool, out=tmp_path_factory.mktemp("tuned"), **{**basis, **changes}).path)
        return known[key]

    return do


@pytest.mark.parametrize("way", [finetune, from_scratch])
@pytest.mark.parametrize("name", ADAPT)
def test_settings_of_adapting(way, name, adapted):
    value, *refusals = ADAPT[name]
    refusal = refusals[way is from_scratch]
    check(lambda changes: adapted(way, **changes), {}, {name: value}, refusal)


@pytest.mark.parametrize("name", ADAPT_TRAINING)
def test_settings_of_training_that_adapting_has_no_use_for(name):
    for cls, tree in ((AdaptRecipe, {}), (StudyRecipe, tiny.graph_study())):
        path = f"training.{name}" if cls is AdaptRecipe else f"adapt.training.{name}"
        with pytest.raises(ConfigError, match=rf"training\.{name} = .* would have no effect"):
            build_config(cls, merged(tree, path, ADAPT_TRAINING[name]))


@pytest.mark.parametrize("name", ["trial_budget", "held_out", "min_scored", "max_doublings"])
def test_settings_of_trials_that_a_single_learning_rate_has_no_use_for(name):
    with pytest.raises(ConfigError, match=rf"{name} = .* would have no effect: it takes two learning rates"):
        build_config(AdaptRecipe, {"learning_rates": [1e-3], name: ADAPT[name][0]})
    if name != "max_doublings":
        single = {"learning_rates": [1e-3], "scratch_learning_rates": [1e-3], name: ADAPT[name][0]}
        with pytest.raises(ConfigError, match=rf"{name} = .* would have no effect"):
            build_config(StudyRecipe, {**tiny.graph_study(), "adapt": single})


def test_every_setting_of_adapting_is_entered():
    assert set(ADAPT) | set(NO_ADAPT) | {"training"} == settings_of(AdaptRecipe)
    assert set(NO_ADAPT_TRAINING) | set(ADAPT_TRAINING) <= settings_of(TrainingConfig)


# --- corrections by demonstrations ------------------------------------------------------------------------------------

CORRECTION: dict[str, tuple[Any, str | None]] = {
    "way": ("checked", EFFECT),
    "neighbours": (3.0, EFFECT),
    "passes": (3, EFFECT),
    "drop": (0.5, EFFECT),
    "cosine": (True, EFFECT),
    "seed": (5, EFFECT),
}
NO_CORRECTION = {"memory": "how much at a time; the answers are the same"}


@pytest.mark.parametrize("name", CORRECTION)
def test_settings_of_a_correction(name):
    def answers(changes: dict[str, Any]) -> str:
        how = build_config(NeighbourCorrection, {"passes": 2, "neighbours": 2.0, **changes})
        return digest_of(corrected(tiny.operator(), tiny.batch(3, purpose="shown"), how).predict(tiny.batch(2)))

    value, refusal = CORRECTION[name]
    check(answers, {}, {name: value}, refusal)
    assert set(CORRECTION) | set(NO_CORRECTION) == settings_of(NeighbourCorrection)


# --- networks and mappings --------------------------------------------------------------------------------------------

HELD = {"mean": {"solution": 1.0}}
FNO: dict[str, Any] = {
    "hold": HELD,
    "width": 6,
    "modes": 4,
    "num_layers": 3,
    "projection_width": 9,
    "latent_points": 10,
    "residual": False,
    "position": True,
    "mask_channels": True,
    "conditioning": "layers",
    "spectral_init": 0.5,
}
NEURALOP: dict[str, Any] = {
    "hold": HELD,
    "n_modes": [6, 6],
    "hidden_channels": 6,
    "n_layers": 2,
    "lifting_channel_ratio": 3.0,
    "projection_channel_ratio": 3.0,
    "positional_embedding": "none",
    "norm": "group_norm",
    "use_channel_mlp": False,
    "channel_mlp_expansion": 1.0,
    "channel_mlp_skip": "linear",
    "fno_skip": "soft-gating",
}
CONTINUOUS: dict[str, Any] = {
    "hold": HELD,
    **{name: FNO[name] for name in ("width", "modes", "num_layers", "projection_width", "latent_points", "position")},
    "spectral_init": 0.5,
    "scheme": "midpoint",
    "num_steps": 5,
    "basis": 3,
    "between": "linear",
}
NO_NETWORK = {
    "gradient": "the same answers; models/test_continuous.py has what training makes of it",
    "engine": "how the same numbers are computed",
    "history": "for what evolves, see below",
    "lead_time": "for what evolves, see below",
}
NETWORKS = {
    FNOConfig: (FNO, tiny.NETWORK),
    ContinuousConfig: (CONTINUOUS, {**tiny.NETWORK, "num_steps": 4, "basis": 2}),
    NeuralopFNOConfig: (NEURALOP, {"n_modes": [4, 4], "hidden_channels": 4, "n_layers": 1}),
}


SAME = Normalization.identity(
    num_inputs=len(Poisson.signature.inputs),
    num_coefficients=len(Poisson.signature.coefficients),
    num_outputs=len(Poisson.signature.outputs),
)


ONE_FIELD = Normalization.identity(num_inputs=1, num_coefficients=1, num_outputs=1)


def built(config: Any) -> list[Any]:
    """Return the weights of a fresh operator and what it answers."""
    operator = build_operator(Poisson.signature, config, SAME, seed=0)
    answer = operator.predict(tiny.batch(2)).require_targets()
    return [[(name, tensor.tolist()) for name, tensor in operator.state_dict().items()], answer.tolist()]


@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls, (table, _) in NETWORKS.items() for name in table])
def test_settings_of_networks(cls, name):
    table, basis = NETWORKS[cls]
    assert built(build_config(cls, {**basis, name: table[name]})) != built(build_config(cls, basis))
    assert set(table) == settings_of(cls) - set(NO_NETWORK)


@pytest.mark.parametrize(("name", "value"), [("history", 2), ("lead_time", True)])
def test_settings_of_networks_for_what_evolves(name, value):
    config = build_config(FNOConfig, {**tiny.NETWORK, name: value})
    with pytest.raises(ConfigError, match="are for what evolves"):
        build_operator(Poisson.signature, config, SAME, seed=0)
    signature = Burgers().signature
    plain = build_operator(signature, build_config(FNOConfig, tiny.NETWORK), ONE_FIELD, seed=0)
    told = build_operator(signature, config, ONE_FIELD, seed=0)
    assert told.num_params == plain.num_params + tiny.NETWORK["width"]  # one more column of the first map


MAPPING: dict[str, tuple[Any, str | None]] = {
    "format": ("xarray", "heat.npz"),
    "fields": ({"warmth": evolving.MAPPING.to_dict()["fields"]["heat"]}, EFFECT),
    "coefficients": ({"decay": "rate"}, EFFECT),
    "time": ({"interval": 0.2}, EFFECT),
    "extent": ({"y": 2.0, "x": 1.0}, EFFECT),
    "boundary": ({"y": "wall", "x": "periodic"}, EFFECT),
    "repeated_end": (["x"], EFFECT),
    "every": (2, EFFECT),
    "dtype": ("float64", EFFECT),
    "splits": ({"train": 1.0}, EFFECT),
    "seed": (3, EFFECT),
    "gaps": ("mask", EFFECT),
    "system": ("poisson", "poisson"),
    "equation": ("u_t = -r u", EFFECT),
    "known_defects": (["a wave and no more"], EFFECT),
}


@pytest.mark.parametrize("name", MAPPING)
def test_settings_of_a_mapping(name, stores, tmp_path):
    path, (value, refusal) = evolving.in_place(tmp_path).path, MAPPING[name]

    def opened(tree: dict[str, Any]) -> list[Any]:
        store = open_data(path, build_config(DataMapping, tree))
        card = store.card.model_dump(mode="json", exclude={"source", "environment"})
        return [card, str(store.grid), digest_of(store.split("train").load())]

    before = evolving.MAPPING.to_dict()
    check(opened, before, {**before, name: value}, refusal)
    assert set(MAPPING) == settings_of(DataMapping)


# --- plans and studies: what they ask of the above --------------------------------------------------------------------

PLAN = {"num_repeats": 4, "held_out": 0.5, "seed": 3, "scratch_learning_rates": (1e-3, 1e-2, 1), "adapt.held_out": 0.5}
CONVERGENCE = {"targets": ["near"], "num_samples": [8], "max_doublings": 1}
STUDY: dict[str, Any] = {
    "title": "another",
    "seeds": [0, 3],
    "few_shot": [5],
    "from_scratch": [5],
    "sizes": ["toy", "toy-wide"],
    "models": {"toy": {"network": {**tiny.NETWORK, "width": 5}}, "toy-wide": {"network": tiny.NETWORK}},
    "normalization": "joint",
    "data": {**tiny.RECIPE["data"], "num_points": 20},
    "training": {**tiny.TRAINING, "num_steps": 9},
    "adapt": {"training": {**tiny.ADAPTING, "num_steps": 9}},
    "sources": tiny.graph_study()["sources"][:1],
    "targets": [{"name": "near", "system": {"name": "poisson", "knobs": {"anisotropy": [2, 3]}}}],
    "scaling": {"source": "poisson", "sizes": ["toy"], "num_steps": [3], "seeds": [0]},
    "pool_size": 13,
    "num_test_samples": 7,
    "num_examples": 1,
    "keep_weights": "pretrained",
    **{f"source.{name}": value for name, value in (("name", "other"), ("sizes", ["toy-wide"]), ("seeds", [4]))},
    **{f"source.{name}": value for name, value in (("num_steps", 5), ("targets", ["far"]), ("few_shot", [6]))},
    "source.from_scratch": [6],
    "source.objective": "mean_squared_error",
    "convergence": CONVERGENCE,
    "convergence.targets": ["far"],
    "convergence.num_samples": [6],
    "convergence.max_doublings": 2,
    "scaling.source": "mixture",
    "scaling.sizes": ["toy"],
    "scaling.num_steps": [4],
    "scaling.seeds": [1],
    "adapt.learning_rates": [1e-3, 1e-2],
    "adapt.scratch_learning_rates": [1e-3, 1e-2],
    "adapt.try_zero_shot": False,
    "adapt.refit_coefficients": "always",
    "adapt.trial_budget": 1.0,
    "adapt.held_out": 0.5,
    "adapt.min_scored": 2,
    "adapt.interpolation": [0.5],
    "adapt.epochs": 9,
    "adapt.method": "affine",
}


def plan_of(tree: dict[str, Any]) -> list[Any]:
    """Return all that a study will do: its jobs with their settings and effort, its samples, its heading."""
    recipe = StudyRecipe.read(tree)
    found: list[Any] = [recipe.title]
    for task in plan_jobs(recipe, Path("nowhere")).tasks.values():
        settings = task._settings(recipe).to_dict()
        found.append([task.name, task.needs, str(task.effort(recipe)), settings, type(task) is Pretraining])
    for target in recipe.targets:
        found.append(digest_of(draw_test(recipe, target.name, recipe.origin(target))))
        found.append(digest_of(pool_of(recipe, target).samples))
    found.append([(kind, job.name, recipe.num_examples) for kind, job in example_jobs(recipe).items()])
    return found + [str(recipe.model(size)) for size in recipe.all_sizes] + [recipe.normalization]


@pytest.mark.parametrize("path", STUDY)
def test_settings_of_a_study(path):
    before = tiny.graph_study()
    if path.startswith("convergence."):
        before["convergence"] = CONVERGENCE
    if path.startswith("source."):
        first = merged(before["sources"][0], path.partition(".")[2], STUDY[path])
        after = {**before, "sources": [first, *before["sources"][1:]]}
        after["scaling"] = {**before["scaling"], "source": first["name"]}
    else:
        after = merged(before, path, STUDY[path])
    assert plan_of(after) != plan_of(before), "the setting was passed over in silence"


@pytest.mark.parametrize(
    ("path", "value"),
    [("training.keep_every", 3), ("training.strategy", "fsdp"), ("data.stride", 2)],
)
def test_settings_a_study_has_no_use_for(path, value):
    with pytest.raises(ConfigError, match=rf"{re.escape(path)} = .* would have no effect"):
        StudyRecipe.read(merged(tiny.graph_study(), path, value))


def test_settings_of_a_study_of_stores_alone(stores):
    store = str(stores["evolving"].path)
    tree = {**tiny.graph_study(), "sources": [{"name": "s", "store": store}], "num_test_samples": 3}
    tree |= {"targets": [{"name": "t", "store": store}], "few_shot": [2], "from_scratch": [2], "normalization": "joint"}
    tree = {k: v for k, v in tree.items() if k not in ("scaling", "pool_size", "data")}
    StudyRecipe.read(tree)
    for path, value in (("pool_size", 12), ("data.num_points", 16), ("data.extent", 2.0), ("data.num_samples", 5)):
        with pytest.raises(ConfigError, match=rf"{re.escape(path)} = .* would have no effect"):
            StudyRecipe.read(merged(tree, path, value))


@pytest.mark.parametrize("path", PLAN)
def test_settings_of_a_plan(path):
    def asked(recipe: PlanRecipe) -> list[Any]:
        jobs = [(kind, 4, repeat) for kind in ("few_shot", "from_scratch") for repeat in range(recipe.num_repeats)]
        return [recipe.split(16, 0), recipe.counts(16), [recipe.settings(*job) for job in jobs]]

    assert asked(build_config(PlanRecipe, merged(PlanRecipe().to_dict(), path, PLAN[path]))) != asked(PlanRecipe())


def test_a_plan_chooses_counts_and_seeds_itself():
    for name, value in (("num_samples", 5), ("seed", 3)):
        with pytest.raises(ConfigError, match=rf"adapt\.{name} = {value} would have no effect"):
            build_config(PlanRecipe, merged(PlanRecipe().to_dict(), f"adapt.{name}", value))


def test_every_setting_of_plans_and_studies_is_entered():
    from scifm.studies.adapting import AdaptConfig
    from scifm.studies.recipe import ConvergenceConfig, ScalingConfig, SourceConfig

    def entered(table: str) -> Iterator[str]:
        return (path.partition(".")[2] for path in STUDY if path.startswith(f"{table}."))

    assert {path for path in STUDY if "." not in path} == settings_of(StudyRecipe)
    assert {*entered("source"), "systems", "store"} == settings_of(SourceConfig)
    assert {*entered("adapt"), "training"} == settings_of(AdaptConfig)
    assert set(entered("scaling")) == settings_of(ScalingConfig)
    assert set(entered("convergence")) == settings_of(ConvergenceConfig)
    assert {path.partition(".")[0] for path in PLAN} == settings_of(PlanRecipe)
