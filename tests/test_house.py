"""scripts/house.py counts what is planted into a toy package, and sets another revision beside it."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "house.py"
SETTINGS = """
[tool.importlinter]
root_package = "toy"
[[tool.importlinter.contracts]]
name = "down"
layers = ["(study)", "left | right", "base"]
"""
FILES = {
    "pyproject.toml": SETTINGS,
    "README.md": "Call `shown`.",
    "tests/test_toy.py": "from toy.base import tried\ntried()\n",
    "src/toy/__init__.py": '__all__ = ["shown"]\nfrom toy.base import shown\n',
    "src/toy/base.py": (
        'import toy.left\n__all__ = ["shown", "forgotten", "tried"]\n\n\n'
        'def shown():\n    """Text."""\n    return _once() + _twice()\n\n\n'
        'def forgotten():\n    """Text."""\n    return _twice()\n\n\n'
        "def tried():\n    return 1\n\n\ndef _once():\n    return 1\n\n\ndef _twice():\n    return 1\n"
    ),
    "src/toy/left/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy import base\n",
    "src/toy/left/one.py": "from toy.left import two\n",
    "src/toy/left/two.py": "def late():\n    from toy.left.one import two\n    return late, two\n",
    "src/toy/right.py": "import toy.left.one\nfrom toy.study import asked\n",
    "src/toy/study.py": "from toy.right import asked\n",
}


@pytest.fixture
def house():
    spec = importlib.util.spec_from_file_location("house", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(tmp_path):
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_what_is_planted_is_found(house, toy):
    found = house.House(toy).lists
    assert found["circles among modules, by imports on loading"] == ["toy.right toy.study"]
    assert found["circles, by imports in functions too"] == ["toy.left.one toy.left.two", "toy.right toy.study"]
    types = ["toy.base toy.left", "toy.left.one toy.left.two", "toy.right toy.study"]
    assert found["circles, by imports for types too"] == types
    assert found["imports upward"] == ["toy.base -> toy.left", "toy.right -> toy.left.one", "toy.right -> toy.study"]
    assert found["helpers with one caller"] == ["toy.base._once"]
    assert found["public names that nothing uses"] == ["toy.base.forgotten"]
    assert found["public names that only tests use"] == ["toy.base.tried"]


def test_numbers_add_up(house, toy):
    table = house.House(toy).table()
    assert (table["modules"], table["functions"], table["helpers"]) == (7, 6, 2)
    assert table["lines of the longest function"] == 3  # late, which has no docstring
    rooms = [lines for row, lines in table.items() if row.startswith("  ")]
    assert sum(rooms) == table["lines"]
    assert table["  left"] == 7


def test_another_revision_stands_beside_it(house, toy, capsys):
    git = ["git", "-c", "user.name=toy", "-c", "user.email=toy@example.org", "-C", str(toy)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "toy"]):
        subprocess.run([*git, *command], check=True)
    (toy / "src/toy/study.py").unlink()
    house.main(["--root", str(toy), "--against", "HEAD"])
    rows = {line[:52].strip(): line[52:].split() for line in capsys.readouterr().out.splitlines()}
    assert rows[""] == ["HEAD", "now"]
    assert rows["modules"] == ["7", "6"]
    assert rows["circles among modules, by imports on loading"] == ["1", "0"]
    assert rows["study"] == ["1", "0"]
