from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from scifm.config import (
    Config,
    apply_overrides,
    build_config,
    config_hash,
    dump_toml,
    read_toml,
    shipped_recipes,
    verb_of,
)
from scifm.errors import ConfigError


class Inner(Config):
    learning_rate: float = Field(1e-3, gt=0)
    steps: int = 10


class Outer(Config):
    name: str
    inner: Inner = Inner()
    maybe: Inner | None = None

    @field_validator("name")
    @classmethod
    def _no_spaces(cls, value: str) -> str:
        if " " in value:
            raise ValueError("a name holds no spaces")
        return value


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3e-4", 3e-4),
        ("true", True),
        ("[1, 5]", [1, 5]),
        ('"3"', "3"),
        ("poisson", "poisson"),
        ("runs/a b", "runs/a b"),
        ("{low = 1, high = 2}", {"low": 1, "high": 2}),
        ("a=b", "a=b"),
    ],
)
def test_override_values_are_toml_and_bare_words_are_strings(text, value):
    assert apply_overrides({}, [f"a.b={text}"]) == {"a": {"b": value}}


def test_overrides_apply_in_order_and_leave_the_original_alone():
    tree = {"a": {"b": 1, "c": 2}}
    assert apply_overrides(tree, ["a.b=3", "a.b=4", "d = 5"]) == {"a": {"b": 4, "c": 2}, "d": 5}
    assert tree == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize("text", ["a.b", "=3", "a..b=3", ".a=3", ""])
def test_a_malformed_override_is_refused(text):
    with pytest.raises(ConfigError, match=r"not of the form a\.b=value"):
        apply_overrides({}, [text])


def test_an_override_cannot_descend_into_a_value():
    with pytest.raises(ConfigError, match="descends into 'b', which is a value"):
        apply_overrides({"a": {"b": 1}}, ["a.b.c=3"])


# --- validation -------------------------------------------------------------------------------------------------------


def test_valid_settings_are_taken_and_frozen():
    config = build_config(Outer, {"name": "x", "inner": {"steps": 3}})
    assert (config.name, config.inner.steps, config.inner.learning_rate) == ("x", 3, 1e-3)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "y"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"name": "x", "iner": {}}, ["'iner' is unknown", "Did you mean 'inner'"]),
        ({"name": "x", "inner": {"learning_rat": 1}}, ["[inner]", "'learning_rat'", "Did you mean 'learning_rate'"]),
        ({"name": "x", "maybe": {"step": 1}}, ["[maybe]", "'step'", "Did you mean 'steps'"]),
        ({"name": "x", "inner": {"zzz": 1}}, ["'zzz' is unknown", "Allowed: learning_rate, steps"]),
        ({}, ["'name' is missing"]),
        ({"name": "a b"}, ["'name' = 'a b'", "a name holds no spaces"]),
        ({"name": "x", "inner": {"learning_rate": -1}}, ["'inner.learning_rate' = -1", "greater than 0"]),
        ({"name": "x", "inner": {"steps": 1.5}}, ["'inner.steps' = 1.5"]),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tree, words):
    with pytest.raises(ConfigError) as caught:
        build_config(Outer, tree, source="recipe 'r.toml'")
    message = str(caught.value)
    assert message.startswith("recipe 'r.toml': ")
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_all_wrong_settings_are_told_at_once():
    with pytest.raises(ConfigError, match=r"'name' is missing.*; .*'inner\.steps'"):
        build_config(Outer, {"inner": {"steps": "many"}})


# --- TOML and hash ----------------------------------------------------------------------------------------------------


def test_toml_goes_round(tmp_path):
    config = build_config(Outer, {"name": "x", "inner": {"learning_rate": 1 / 3}})
    file = tmp_path / "config.toml"
    file.write_text(dump_toml(config.to_dict()))
    assert "maybe" not in config.to_dict()
    assert build_config(Outer, read_toml(file)) == config


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No recipe at"), (b"a = ", "not valid TOML"), (b"\xff\xfe", "not valid TOML")]
)
def test_an_unreadable_recipe_is_one_clear_error(tmp_path, content, words):
    file = tmp_path / "r.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_toml(file)


def test_a_folder_is_not_a_recipe(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read the recipe"):
        read_toml(tmp_path)


values = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=4) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), values, min_size=1, max_size=5))
def test_the_hash_does_not_depend_on_the_order_of_keys(tree):
    def turned(value):
        return {k: turned(value[k]) for k in reversed(value)} if isinstance(value, dict) else value

    assert config_hash(turned(tree)) == config_hash(tree)


def test_the_hash_depends_on_every_value_and_on_the_order_of_lists():
    base = {"a": {"b": [1, 2]}, "c": 1.0}
    others = [{"a": {"b": [2, 1]}, "c": 1.0}, {"a": {"b": [1, 2]}, "c": 1.5}, {"a": {"x": [1, 2]}, "c": 1.0}]
    assert len({config_hash(tree) for tree in [base, *others]}) == 4
    assert config_hash(base) == config_hash(base)
    assert len(config_hash(base)) == 8
    int(config_hash(base), 16)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "1" * 5000, b"\xff\xfe", "a = "])
def test_a_file_that_no_parser_can_read_is_refused(text, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_toml(file)


@pytest.mark.parametrize("value", ["[" * 5000, "1" * 5000])
def test_an_override_that_no_parser_can_read_is_refused(value):
    with pytest.raises(ConfigError, match="of an override cannot be read"):
        apply_overrides({}, [f"a={value}"])


def nested(depth: int) -> dict:
    tree: dict = {"a": 1}
    for _ in range(depth):
        tree = {"a": [tree]}
    return tree


@pytest.mark.parametrize("read", [lambda tree: build_config(Outer, tree), lambda tree: apply_overrides(tree, [])])
@pytest.mark.parametrize("depth", [30, 5000])
def test_tables_in_tables_without_end_are_refused(read, depth):
    with pytest.raises(ConfigError, match=r"'a\.0\.a\.0…' is nested more than 50 deep"):
        read(nested(depth))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_cannot_be_written_down_are_refused(number):
    with pytest.raises(ConfigError, match=rf"recipe: 'a\.1\.b' = {number}: numbers have to be finite"):
        build_config(Outer, {"a": [1, {"b": number}]}, source="recipe")


def test_kinds_of_recipes_are_told_by_keys_that_only_they_have():
    from scifm.config import _KINDS
    from scifm.data.formats.mapping import DataMapping
    from scifm.studies.planner import PlanRecipe
    from scifm.studies.recipe import StudyRecipe
    from scifm.training.pretrain import PretrainRecipe

    classes = {"plan": PlanRecipe, "pretrain": PretrainRecipe, "study": StudyRecipe, "import": DataMapping}
    assert set(classes) == set(_KINDS)
    for verb, (_, marks) in _KINDS.items():
        others = {n for other, cls in classes.items() if other not in (verb, "import") for n in cls.model_fields}
        assert marks - {"networks"} <= set(classes[verb].model_fields)  # how studies of before said their models
        assert not marks & others
    assert next(iter(_KINDS)) == "import", "a mapping may name a system too, and is known by its fields first"


def test_a_key_that_stands_in_another_table_is_named_with_its_table():
    with pytest.raises(ConfigError, match=r"'steps' is unknown. Did you mean 'inner.steps' or 'maybe.steps'\?"):
        build_config(Outer, {"name": "x", "steps": 3})


def test_recipes_that_come_with_the_package_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_toml("poisson-tiny")["name"] == "poisson-tiny"
    assert read_toml("paper/poisson") == read_toml(shipped_recipes()["paper/poisson"])
    (tmp_path / "poisson-tiny").write_text('name = "mine"')
    assert read_toml("poisson-tiny")["name"] == "mine", "a file that is there wins"
    with pytest.raises(ConfigError, match=r"No recipe at 'poisson-tny'. Did you mean 'poisson-tiny'"):
        read_toml("poisson-tny")
    assert all(verb_of(read_toml(file)) for name, file in shipped_recipes().items() if name != "paper/sizes")
