from __future__ import annotations

import subprocess
import sys

import pytest

from plugin import install, install_example
from scifm.errors import ConfigError
from scifm.plugins import installed_plugins
from scifm.systems.catalog import SYSTEMS, available_systems, find_system, list_systems, system_from_dict
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson

SOURCE = """
from dataclasses import dataclass
from scifm.systems.poisson import Poisson
from scifm.systems.system import System

@dataclass(frozen=True)
class Good(Poisson):
    name = "good"

@dataclass(frozen=True)
class Impostor(Poisson):
    name = "poisson"

@dataclass(frozen=True)
class Needy(System):
    strength: float
    name, equation, signature = "needy", "u = f", Poisson.signature
    sample = solve = residual = invariants = lambda self: None

class Half(System):
    name, equation, signature = "half", "u = f", Poisson.signature
    solve = residual = invariants = lambda self: None

class Loose(System):
    name, equation, signature = "loose", "u = f", Poisson.signature
    sample = solve = residual = invariants = lambda self: None

class Silent(System):
    pass

@dataclass(frozen=True)
class Moody(Poisson):
    name = "moody"
    def __post_init__(self):
        raise ValueError("not today")

number = 3
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of the search path; what is imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    installed_plugins("scifm.systems", again=True)


@pytest.fixture
def offer(site):
    def add(distribution="acme", module="acme_systems", source=SOURCE, **entries):
        targets = {name: f"{module}:{target}" for name, target in entries.items()}
        install(site, distribution, targets, source, module)

    return add


def test_nothing_is_imported_before_it_is_asked_for(offer):
    offer(good="Good")
    assert find_system("poisson") is Poisson
    assert "good" in installed_plugins("scifm.systems", again=True)
    assert "acme_systems" not in sys.modules
    found = find_system("good")
    assert issubclass(found, Poisson)
    assert found.__module__ == "acme_systems"


def test_a_package_installed_since_is_found(offer):
    with pytest.raises(ConfigError, match="'good' is unknown"):
        find_system("good")
    offer(good="Good")
    assert find_system("good").name == "good"


def test_a_system_uninstalled_is_suggested_no_more(offer, site):
    offer(good="Good")
    with pytest.raises(ConfigError, match="Did you mean 'good'"):
        find_system("goood")
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text("")
    with pytest.raises(ConfigError, match=f"Allowed: {', '.join(sorted(SYSTEMS))}"):
        find_system("goood")


@pytest.mark.parametrize(
    ("name", "target", "told"),
    [
        ("better", "Good", "it calls itself 'good'"),
        ("needy", "Needy", "have no default: strength"),
        ("half", "Half", "its class lacks sample"),
        ("loose", "Loose", "its class is no dataclass"),
        ("silent", "Silent", "does not set name, equation, signature"),
        ("number", "number", "it is 3, and no subclass of scifm.System"),
        ("gone", "Gone", "cannot be imported: AttributeError"),
        ("moody", "Moody", "from its defaults: ValueError: not today"),
    ],
)
def test_what_is_no_system_is_refused_when_asked_for_and_listed_as_broken(offer, name, target, told):
    offer(**{name: target})
    with pytest.raises(ConfigError, match=told) as caught:
        find_system(name)
    assert f"'{name}' of acme 1.0 (acme_systems:{target})" in str(caught.value)
    listed = {entry.name: entry for entry in list_systems()}
    assert listed[name].offered is None
    assert listed[name].fault == str(caught.value)
    assert available_systems() == SYSTEMS
    assert find_system("poisson") is Poisson


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import no_such_module_", "ModuleNotFoundError: No module named 'no_such_module_'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_hurts_nobody_else(offer, source, told):
    offer(source=source, good="Good")
    assert find_system("helmholtz").name == "helmholtz"
    with pytest.raises(ConfigError, match=told) as caught:
        find_system("good")
    assert "acme 1.0" in str(caught.value)
    assert [entry.name for entry in list_systems() if entry.fault] == ["good"]


def test_ours_are_not_replaced(offer):
    offer(poisson="Impostor")
    with pytest.raises(ConfigError, match=r"scifm.systems.poisson.Poisson.*'poisson' of acme 1.0") as caught:
        find_system("poisson")
    assert "rename" in str(caught.value)
    assert find_system("helmholtz") is SYSTEMS["helmholtz"]
    assert [(e.distribution, e.fault is None) for e in list_systems() if e.name == "poisson"] == [
        ("scifm", True),
        ("acme 1.0", False),
    ]
    assert available_systems() == SYSTEMS


def test_two_plug_ins_of_one_name_are_told_apart_by_nobody(offer):
    offer(good="Good")
    offer("other-maker", "other_systems", good="Good")
    with pytest.raises(ConfigError, match=r"acme 1.0") as caught:
        find_system("good")
    assert "other-maker 1.0 (other_systems:Good)" in str(caught.value)
    assert "good" not in available_systems()


def test_the_example_is_a_system_like_ours(site):
    install_example(site)
    made = system_from_dict({"name": "thin_plate", "knobs": {"rigidity": [1e-5, 1e-3]}, "options": {"bedding": 2}})
    assert made.rigidity == Knob(1e-5, 1e-3, scale="log")
    assert (made.bedding, type(made.bedding)) == (2.0, float)
    assert "thin_plate" in available_systems()
    for entries, told in (
        ({"knobs": {"rigidit": 1}}, "Did you mean 'rigidity'"),
        ({"options": {"beding": 1}}, "Did you mean 'bedding'"),
        ({"options": {"bedding": "soft"}}, "bedding of 'thin_plate' is float like 1.0; got 'soft'"),
        ({"options": {"bedding": 0}}, "needs rigidity and bedding > 0"),
    ):
        with pytest.raises(ConfigError, match=told):
            system_from_dict({"name": "thin_plate", **entries})


def test_import_scifm_looks_for_no_plug_in(site):
    install(site, "acme", {"good": "acme_systems:Good"}, "print('imported')", "acme_systems")
    code = f"""
import importlib.metadata, sys
ask = importlib.metadata.entry_points
def look(**chosen):
    if chosen.get("group") == "scifm.systems":
        raise SystemExit("looked for plug-ins")
    return ask(**chosen)
importlib.metadata.entry_points = look
sys.path.insert(0, {str(site)!r})
import scifm
scifm.systems.Poisson
print("acme_systems" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("False", "", 0)
