from __future__ import annotations

import os
import subprocess
import sys

import pytest

import tiny  # noqa: F401  known by this name
from scifm.errors import ConfigError
from scifm.models.module_operator import VARIABLE, import_own, require_importable


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_is_imported_with_those_beside_it_and_is_known_to_processes_that_follow(tmp_path):
    (tmp_path / "own_beside.py").write_text("number = 7\n")
    file = tmp_path / "own_net.py"
    file.write_text("from own_beside import number\n")
    import_own([str(file)])
    import_own([str(file)])
    assert sys.modules["own_net"].number == 7
    require_importable("own_net")
    assert os.environ[VARIABLE] == str(file)
    code = "from scifm.models.module_operator import require_importable; require_importable('own_net')"
    code += "; import own_net; print(own_net.number)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert told.stdout == "7\n"


@pytest.mark.parametrize(
    ("place", "content", "told"),
    [
        ("nowhere.py", None, "no file"),
        ("own net.py", "", "neither the name of a module"),
        ("own_broken.py", "1 / 0", "cannot be imported: ZeroDivisionError"),
        ("tiny.py", "", "Python already knows a 'tiny'"),
        ("no_module_of_this_name", None, "cannot be imported: ModuleNotFoundError"),
        ("../x", None, "neither the name of a module"),
    ],
)
def test_what_cannot_be_imported_is_told(tmp_path, place, content, told):
    if content is not None:
        (tmp_path / place).write_text(content)
    with pytest.raises(ConfigError, match=told):
        import_own([str(tmp_path / place) if place.endswith(".py") else place])
    assert not os.environ[VARIABLE], "what failed is handed on to nobody"
