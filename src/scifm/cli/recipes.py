"""What verbs are told: settings from a recipe, everyday options and ``--set``, in that order, as one configuration."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from scifm.config import Config, apply_overrides, build_config, places_of, read_toml
from scifm.errors import ConfigError

__all__ = [
    "RECIPES",
    "SAMPLES",
    "Knobs",
    "Overrides",
    "SystemName",
    "asked",
    "complete_systems",
    "knob_ranges",
    "setting_of_option",
    "settings",
    "told_by",
]

RECIPES = {
    "assess": "scifm.applications.ground_motion.assessing:AssessRecipe",
    "calibrate": "scifm.evaluation.calibrate:CalibrateRecipe",
    "check": "scifm.trust.examine:CheckRecipe",
    "compress": "scifm.distillation.compress:CompressRecipe",
    "embed": "scifm.evaluation.embedding:EmbedRecipe",
    "events": "scifm.applications.early_warning.making:EventRecipe",
    "evaluate": "scifm.evaluation.evaluate:EvaluateRecipe",
    "finetune": "scifm.training.choice:AdaptRecipe",
    "generate": "scifm.data.sample_recipe:GenerateRecipe",
    "imitate": "scifm.applications.ground_motion.imitating:ImitateRecipe",
    "invert": "scifm.applications.inversion.asking:InvertRecipe",
    "observe": "scifm.applications.inversion.making:ObserveRecipe",
    "plan": "scifm.studies.planner:PlanRecipe",
    "predict": "scifm.evaluation.predict_file:PredictRecipe",
    "pretrain": "scifm.training.pretrain:PretrainRecipe",
    "records": "scifm.applications.ground_motion.making:RecordsRecipe",
    "rollout": "scifm.evaluation.rollouts:RolloutRecipe",
    "shake": "scifm.applications.ground_motion.shaking:ShakeRecipe",
    "study": "scifm.studies.recipe:StudyRecipe",
    "warn": "scifm.applications.early_warning.forecasting:WarnRecipe",
}
"""Verb → where its settings are described; read when they are needed, since that loads torch."""


def complete_systems(incomplete: str) -> list[str]:
    """Return the systems whose names begin so, for shells."""
    from scifm.systems.catalog import list_systems

    return [listing.name for listing in list_systems() if listing.name.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Set one setting; an unknown one lists all there are. Repeatable."),
]
SystemName = Annotated[
    str | None,
    typer.Option("--system", help="System to sample; 'scifm systems' lists them.", autocompletion=complete_systems),
]
Knobs = Annotated[
    list[str] | None,
    typer.Option("--knob", metavar="NAME=LOW,HIGH", help="Range of one knob, e.g. anisotropy=5,10; repeatable."),
]
SAMPLES = ("system", "knobs", "store", "num_samples")
"""Everyday options by which the verbs that put a model to samples are told which."""

_EVERYDAY: Mapping[str, Any] = {
    "system": SystemName,
    "knobs": Knobs,
    "store": Annotated[Path | None, typer.Option("--store", help="Folder of a store, instead of a system.")],
    "num_samples": Annotated[int | None, typer.Option("--num-samples", help="Samples drawn of a system.")],
    "seed": Annotated[int | None, typer.Option(help="Seed of every random number; default: 0.")],
    "recipe": Annotated[
        Path | None, typer.Option("--recipe", help="TOML file of settings; what options and --set say goes before it.")
    ],
    "overrides": Overrides,
}


def told_by(*names: str, **own: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb, as its argument `tree`, all that options say of its settings (`asked`).

    Args:
        *names: options that mean the same everywhere, of `_EVERYDAY`; ``--recipe`` and ``--set`` come by themselves.
        **own: setting → the option of this verb that says it.
    """
    options = {**own, **{name: _EVERYDAY[name] for name in (*names, "recipe", "overrides")}}

    def decorated(verb: Callable[..., None]) -> Callable[..., None]:
        @wraps(verb)
        def call(**given: Any) -> None:
            verb(tree=asked(**{name: given.pop(name) for name in options}), **given)

        signature = inspect.signature(verb, eval_str=True)
        taken = {name: parameter for name, parameter in signature.parameters.items() if name != "tree"}
        for name, option in options.items():
            taken[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        call.__signature__ = signature.replace(parameters=list(taken.values()))  # type: ignore[attr-defined]
        call.__annotations__ = {name: parameter.annotation for name, parameter in taken.items()}
        return call

    return decorated


def knob_ranges(knobs: list[str] | None) -> dict[str, list[float]]:
    """Return the range of each knob that was given, ``[low, high]``, both alike where it was one number.

    Raises:
        ConfigError: if one is malformed.
    """
    ranges = {}
    for text in knobs or []:
        name, equals, bounds = text.partition("=")
        try:
            numbers = [float(part) for part in bounds.split(",")]
            low, high = numbers * (2 if len(numbers) == 1 else 1)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(
                f"The knob '{text}' is not of the form NAME=LOW,HIGH or NAME=VALUE, for example anisotropy=5,10."
            )
        ranges[name.strip()] = [low, high]
    return ranges


def asked(
    recipe: Path | None = None,
    overrides: list[str] | None = None,
    system: str | None = None,
    knobs: list[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return all that was asked as one tree: the recipe, then options that were given, then ``--set``.

    Every option is what was given to it, None if nothing was; `options` are those called like a setting.

    Raises:
        ConfigError: if the file cannot be read, or something is malformed.
    """
    tree = read_toml(recipe) if recipe is not None else {}
    given = {name: value for name, value in options.items() if value is not None}
    tree |= {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    named = tree.get("system")
    if system is not None and not (isinstance(named, Mapping) and named.get("name") == system):
        named = tree["system"] = {"name": system}  # of another system's table nothing is taken over
    if knobs:
        if not isinstance(named, Mapping):
            raise ConfigError("--knob would have no effect without --system: give it, or leave --knob out.")
        before = named.get("knobs")
        tree["system"] = {**named, "knobs": {**(before if isinstance(before, Mapping) else {}), **knob_ranges(knobs)}}
    return apply_overrides(tree, overrides or [])


def settings(verb: str, tree: Mapping[str, Any]) -> Any:
    """Return the settings of a verb, an object of its class in `RECIPES`.

    Raises:
        ConfigError: if a setting is unknown or not allowed.
    """
    cls = pkgutil.resolve_name(RECIPES[verb])
    defaults = {name: field.default for name, field in cls.model_fields.items()}
    return build_config(cls, {**tree, **_filled(defaults, tree)}, source=f"settings of {verb}")


def _filled(defaults: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables in `tree` filled up with what this verb has there, not with the defaults of a table's class."""
    tables = {name: own for name, own in defaults.items() if isinstance(own, Config)}
    return {
        name: {**own.to_dict(), **tree[name], **_filled(dict(own), tree[name])}
        for name, own in tables.items()
        if isinstance(tree.get(name), Mapping)
    }


def setting_of_option(verb: str, option: str) -> str | None:
    """Return how a setting is given that was asked for by an option of its name; None: there is no such setting."""
    if verb not in RECIPES:
        return None
    name = option.lstrip("-").replace("-", "_")
    cls = pkgutil.resolve_name(RECIPES[verb])
    places = [*places_of(cls, name), *places_of(cls, f"{name}s")]
    if not places:
        return None
    place = min(places, key=lambda place: place.count("."))
    is_table = get_origin(cls.model_fields[place].annotation) is dict if place in cls.model_fields else False
    return f"--set {place}{'.NAME' if is_table else ''}=…"
