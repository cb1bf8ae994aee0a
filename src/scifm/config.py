"""Frozen configuration trees ⇄ TOML, with overrides and a hash.

Each room keeps its own configuration class beside what it configures; all derive from `Config`. A key nobody knows
is an error that names the nearest valid one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from scifm.errors import ConfigError, suggest

_KINDS: dict[str, tuple[str, frozenset[str]]] = {  # by verb: what its recipe is, and the keys only such a one has
    "import": ("a mapping of foreign data", frozenset({"fields", "format"})),
    "plan": ("a recipe of plans", frozenset({"num_repeats"})),
    "pretrain": ("a pre-training recipe", frozenset({"system", "mixture", "model"})),
    "study": ("the recipe of a study", frozenset({"sources", "targets", "models", "networks", "scaling"})),
}
FORMER_TRANSFER = (
    "'scifm transfer' went: 'scifm study' does the same and more. Write its recipe as one of a study, like "
    "recipes/transfer-demo.toml: [pretrain] becomes [data], [training] and an entry of [[sources]], [downstream] "
    "becomes one of [[targets]]"
)

RECORDED = ("kind", "origin")
"""What the configuration of a run says besides its recipe: what kind of run it is, and where its samples came from."""

__all__ = [
    "FORMER_TRANSFER",
    "RECORDED",
    "Config",
    "Plain",
    "apply_overrides",
    "build_config",
    "build_inside",
    "config_hash",
    "dump_toml",
    "kind_of_record",
    "named_settings",
    "other_record",
    "places_of",
    "read_recipe",
    "read_toml",
    "refuse_idle",
    "shipped_recipes",
    "told_by_name",
    "verb_of",
]

_SHIPPED = Path(__file__).parent / "recipes"
_DEEPEST = 50  # tables in tables; ours have six

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of every configuration: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_dict(self) -> dict[str, Any]:
        """Return plain TOML-ready values; settings that are None are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_record(self) -> dict[str, Any]:
        """Return what of it a run is known by: `to_dict` without what only watches, such as loggers."""
        return self.model_dump(mode="json", exclude_none=True, context={"record": True})


class Plain:
    """Base of dataclasses that are written down, and read again, as plain values: numbers, words, lists and tables."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict(self._adapter().dump_python(self, mode="json"))

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`.

        Raises:
            ConfigError: if a field is missing or of another type; or what the class itself raises.
        """
        try:
            made: Self = cls._adapter().validate_python(dict(entries))
        except ValidationError as error:
            own = [problem["ctx"]["error"] for problem in error.errors() if problem["type"] == "value_error"]
            problems = "; ".join(_explain(Config, problem) for problem in _causes(error))
            raise own[0] if own else ConfigError(f"{cls.__name__}: {problems}") from error
        return made

    @classmethod
    @cache
    def _adapter(cls) -> TypeAdapter[Any]:
        return TypeAdapter(cls)  # takes a millisecond to make


def refuse_idle(config: Config, names: Iterable[str], why: str, *, prefix: str = "") -> None:
    """Refuse settings that would have no effect where they were given: nothing a user says is passed over in silence.

    A setting at its default asks for nothing, so that what was resolved and written down can be read again.

    Args:
        config: holds the settings.
        names: of those without effect.
        why: for the message: why they have none.
        prefix: of the key in the recipe, such as ``data.``.

    Raises:
        ConfigError, which is a ValueError: if one of them is not at its default; names it.
    """
    for name in names:
        given, default = getattr(config, name), type(config).model_fields[name].get_default(call_default_factory=True)
        if given != default:
            raise ConfigError(f"{prefix}{name} = {given!r} would have no effect: {why}. Leave it out.")


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by the names under which they are found anywhere."""
    return {
        file.relative_to(_SHIPPED).with_suffix("").as_posix(): file
        for file in sorted(_SHIPPED.rglob("*.toml"), key=lambda file: (len(file.parts), file))
    }


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a recipe: a file, or one that comes with the package, by its name.

    Raises:
        ConfigError: if the file is missing or is not TOML.
    """
    path = Path(path)
    if not path.suffix and not os.path.exists(path):
        path = shipped_recipes().get(path.as_posix(), path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        close = get_close_matches(path.stem, shipped_recipes(), 1)
        meant = f" Did you mean '{close[0]}', which comes with the package?" if close else ""
        raise ConfigError(
            f"No recipe at '{path}'.{meant} Give the path of a TOML file, or a name that 'scifm recipes' lists."
        ) from error
    except OSError as error:
        raise ConfigError(f"Cannot read the recipe '{path}': {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # not TOML, not text, thousands of digits, thousands of brackets
        raise ConfigError(f"'{path}' is not valid TOML: {error}.") from error


def read_recipe(
    cls: type[ConfigT], recipe: str | Path | Mapping[str, Any], verb: str, *, overrides: Iterable[str] = ()
) -> ConfigT:
    """Return a recipe from a TOML file or a tree, with ``a.b=c`` overrides.

    Args:
        cls: what it is to become.
        recipe: the file, or its content.
        verb: the command that takes such recipes.
        overrides: see `apply_overrides`.

    Raises:
        ConfigError: if it is missing, malformed, holds unknown keys, or is a recipe for another command.
    """
    tree = recipe if isinstance(recipe, Mapping) else read_toml(recipe)
    source = "the recipe" if isinstance(recipe, Mapping) else f"recipe '{recipe}'"
    if {"pretrain", "downstream"} & set(tree):
        raise ConfigError(f"{source} is of a kind that is not used any more: {FORMER_TRANSFER}.")
    if tree.get("kind") == verb:  # the record of a run: what it adds to its recipe is found out anew
        tree = {key: value for key, value in tree.items() if key not in RECORDED}
    elif isinstance(tree.get("kind"), str):
        raise ConfigError(
            f"{source} is the record of a run of kind '{tree['kind']}'; 'scifm {verb}' takes {_KINDS[verb][0]}."
        )
    if not _KINDS[verb][1] & set(tree):
        for other, (title, marks) in _KINDS.items():
            if own := sorted(marks & set(tree)):
                raise ConfigError(
                    f"{source} is {title} (it has '{own[0]}'): use 'scifm {other}'. 'scifm {verb}' takes "
                    f"{_KINDS[verb][0]}."
                )
    return build_config(cls, apply_overrides(tree, overrides), source=source)


def verb_of(tree: Mapping[str, Any]) -> str:
    """Return the command that takes a recipe; empty where nothing tells."""
    return next((verb for verb, (_, marks) in _KINDS.items() if marks & set(tree)), "")


def kind_of_record(tree: Mapping[str, Any]) -> str:
    """Return what kind of run a configuration is of; one written before runs said it is known by its keys.

    Returns:
        ``pretrain``, ``finetune``, ``from_scratch``, ``study``, ``plan`` or another verb; empty where nothing tells.
    """
    if "kind" in tree:
        return str(tree["kind"])
    return next((verb for verb, (_, marks) in _KINDS.items() if marks & set(tree)), "")


def other_record(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Return in words how the configuration in a folder differs from ours; empty where it does not.

    One written before runs said their kind and origin is ours if the rest is the same.
    """
    same = {key: value for key, value in ours.items() if key in theirs or key not in RECORDED}
    theirs, same = (tomllib.loads(dump_toml(tree)) for tree in (theirs, same))  # as a file has it, in any order
    if theirs == same:
        return ""
    kind, mine = kind_of_record(theirs) or "study", kind_of_record(ours) or "study"
    if kind != mine:
        return f"a {kind}" if kind in ("study", "plan") else f"a run of kind '{kind}'"
    if {key for key in {*theirs, *same} if theirs.get(key) != same.get(key)} - {"origin", "about"}:
        return f"a {kind} with another recipe"
    # the second of them is of plans: which operator, and the content of the samples
    parents = [tree.get("about", {}).get("parent") for tree in (theirs, same)]
    return f"a {kind} of samples that were others then" if parents[0] == parents[1] else f"a {kind} of another operator"


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string: --set system.name=poisson
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise ConfigError(f"The value '{text[:40]}…' of an override cannot be read: {error}.") from error


def apply_overrides(tree: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return `tree` with ``a.b=c`` assignments applied; values are TOML, bare words are strings.

    Raises:
        ConfigError: if `tree` cannot be written down, or an override has no ``=``, an empty key, or descends into
            something that is not a table.
    """
    _require_plain(tree, "the configuration")
    result: dict[str, Any] = json.loads(json.dumps(tree))
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"The override '{override}' is not of the form a.b=value.")
        node = result
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"The override '{override}' descends into '{part}', which is a value, not a table.")
        node[parts[-1]] = _parse_value(text.strip())
    return result


def _tables_of(field: Any) -> Iterator[type[BaseModel]]:
    """Yield the classes that a table given to a field may become."""
    for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            yield candidate


def _field_names(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed in the table that holds the last part of `location`."""
    for part in location[:-1]:
        field = cls.model_fields.get(str(part))
        cls = cls if field is None else next(_tables_of(field), cls)
    return list(cls.model_fields)


def places_of(cls: type[BaseModel], name: str, prefix: str = "") -> list[str]:
    """Return where a key stands in a configuration, by its whole path: a setting may be looked for in another table."""
    places = [f"{prefix}{name}"] if name in cls.model_fields else []
    for own, field in cls.model_fields.items():
        for table in _tables_of(field):
            places += places_of(table, name, f"{prefix}{own}.")
    return places


def _require_plain(tree: Any, source: str) -> None:
    """Refuse what cannot be written down again: tables in tables without end, NaN and infinity."""
    pending: list[tuple[Any, tuple[str, ...]]] = [(tree, ())]
    while pending:
        node, place = pending.pop()
        if len(place) > _DEEPEST:
            raise ConfigError(f"{source}: '{'.'.join(place[:4])}…' is nested more than {_DEEPEST} deep.")
        if isinstance(node, float) and not math.isfinite(node):
            raise ConfigError(f"{source}: '{'.'.join(place)}' = {node}: numbers have to be finite.")
        if isinstance(node, Mapping):
            pending += [(value, (*place, str(key))) for key, value in node.items()]
        elif isinstance(node, list | tuple):
            pending += [(value, (*place, str(number))) for number, value in enumerate(node)]


def build_config(cls: type[ConfigT], tree: Mapping[str, Any], *, source: str = "the configuration") -> ConfigT:
    """Validate `tree` into `cls`.

    Raises:
        ConfigError: one line that names the key, what was given and what is allowed.
    """
    _require_plain(tree, source)
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(_explain(cls, e) for e in _causes(error))) from error


def build_inside(cls: type[ConfigT], tree: Any) -> ConfigT:
    """Validate `tree` into `cls` from within a validator of another configuration that chose `cls` itself.

    Raises:
        PydanticCustomError: its problems, which `build_config` of the outer configuration tells as its own.
    """
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise PydanticCustomError(
            "inside", "settings are not valid: {told}", {"told": str(error), "cls": cls, "problems": error.errors()}
        ) from error


def named_settings(value: Any, base: type, find: Callable[[str], type[Config]]) -> Any:
    """Return what is told by a name, or by a table of its name and settings, as an object. For validators.

    Args:
        value: the name, the table, or an object that is one already.
        base: what all of them are.
        find: returns the class of a name.

    Raises:
        ConfigError: if there is no such name.
        PydanticCustomError: if a setting is unknown or not allowed.
    """
    tree = {"name": value} if isinstance(value, str) else value
    if isinstance(tree, base) or not isinstance(tree, Mapping):
        return tree
    if "name" not in tree:
        raise ConfigError(f"write its name, or a table of its name and settings; {dict(tree)} has no name")
    return build_inside(find(str(tree["name"])), {key: part for key, part in tree.items() if key != "name"})


def told_by_name(config: Any) -> Any:
    """Return the inverse of `named_settings`: the name alone where all settings are left at their defaults."""
    settings = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return {"name": config.name, **settings} if settings else config.name


def _causes(error: ValidationError) -> list[Any]:
    """Return problems without those that follow from another: a list is too short where its entries are refused."""
    problems = error.errors()
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short"
        or not any(other is not problem and other["loc"][: len(problem["loc"])] == problem["loc"] for other in problems)
    ]


def _explain(cls: type[BaseModel], problem: Any, inside: tuple[int | str, ...] = ()) -> str:
    location = tuple(problem["loc"])
    if problem["type"] == "inside":
        context = problem["ctx"]
        return "; ".join(_explain(context["cls"], p, (*inside, *location)) for p in context["problems"])
    key = ".".join(map(str, (*inside, *location)))
    if problem["type"] == "extra_forbidden":
        prefix, _, name = key.rpartition(".")
        there = [place for place in places_of(cls, name) if place != ".".join(map(str, location))]
        place = f"in [{prefix}] " if prefix else "key "
        allowed = _field_names(cls, location)
        if there and not inside:
            known = " or ".join(f"'{place}'" for place in there)
            return f"{place}'{name}' is unknown. Did you mean {known}? Allowed here: {', '.join(sorted(allowed))}."
        return place + suggest(name, allowed)
    message = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    if problem["type"] == "missing":
        return f"'{key}' is missing and has no default."
    if problem["type"] == "dict_type":
        message = f"it is a table; write {key}.NAME = VALUE for each of its entries"
    return f"'{key}' = {problem['input']!r}: {message}." if key else f"{message}."


def dump_toml(entries: Mapping[str, Any]) -> str:
    """Return `entries` as TOML text; the inverse of `read_toml`."""
    return tomli_w.dumps(dict(entries))


def config_hash(entries: Mapping[str, Any]) -> str:
    """Return eight hexadecimal digits that depend on every value and not on the order of keys."""
    canonical = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]
