"""Wheels with compiled libraries: what is in them, for which systems, and that one is fast where no compiler is."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from scifm.models.parts import compiled_jets, native
from scifm.native import build, width

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "wheels.py"
PURE = {
    "scifm/__init__.py": b"",
    "scifm-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "scifm-1.dist-info/RECORD": b"scifm/__init__.py,sha256=,0\n",
}
needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None or native.library() is None, reason="wheels are built by gcc, for Linux"
)


@pytest.fixture(scope="module")
def wheels():
    spec = importlib.util.spec_from_file_location("wheels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@needs_gcc
def test_the_script_compiles_what_the_package_loads(wheels):
    """The names under which `load` looks a library up are those of the script's list."""
    bits = width()
    assert native.sources(bits) in wheels.codes(bits)
    assert compiled_jets.sources(bits) in wheels.codes(bits)
    kind = wheels.KINDS.get(f"linux-{wheels.HOST.machine}")
    assert kind is not None
    assert bits in kind.widths


@needs_gcc
def test_the_tag_is_the_oldest_c_library_that_has_what_is_called(wheels, tmp_path):
    kind = wheels.KINDS[f"linux-{wheels.HOST.machine}"]
    library = build(compiled_jets.sources(128), tmp_path, ("gcc",))
    machine = wheels.HOST.machine
    assert wheels.tags_of(kind, [library]) == [f"manylinux_2_17_{machine}", f"manylinux2014_{machine}"]
    young = tmp_path / "young.c"
    young.write_text("#include <unistd.h>\nint scifm_it(void) { char a[9]; return getentropy(a, 9); }\n")  # glibc 2.25
    subprocess.run(["gcc", "-shared", "-fPIC", str(young), "-o", str(tmp_path / "young.so")], check=True, timeout=60)
    assert wheels.tags_of(kind, [library, tmp_path / "young.so"]) == [f"manylinux_2_25_{machine}"]
    linked = ["-Wl,--no-as-needed", "-lgomp"]
    subprocess.run(["gcc", "-shared", "-fPIC", str(young), "-o", str(tmp_path / "linked.so"), *linked], check=True)
    with pytest.raises(SystemExit, match=r"need libgomp.so.1, which not every Linux has"):
        wheels.tags_of(kind, [tmp_path / "linked.so"])


def test_a_mac_has_a_tag_of_its_own(wheels):
    assert wheels.tags_of(wheels.KINDS["macos-arm64"], []) == ["macosx_11_0_arm64"]


def test_a_wheel_says_what_it_holds(wheels, tmp_path):
    pure, library = tmp_path / "scifm-1-py3-none-any.whl", tmp_path / "some-0123.so"
    library.write_bytes(b"\x7fELF")
    with zipfile.ZipFile(pure, "w") as target:
        for name, content in PURE.items():
            target.writestr(name, content)
    tags = ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    made = wheels.platform_wheel(pure, [library], tags, tmp_path / "dist")
    assert made.name == "scifm-1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    with zipfile.ZipFile(made) as source:
        members = {name: source.read(name) for name in source.namelist()}
    assert members["scifm/prebuilt/some-0123.so"] == b"\x7fELF"
    about = members["scifm-1.dist-info/WHEEL"].decode().splitlines()
    assert about[1:] == ["Root-Is-Purelib: false", *(f"Tag: py3-none-{tag}" for tag in tags)]
    rows = list(csv.reader(members["scifm-1.dist-info/RECORD"].decode().splitlines()))
    assert {row[0] for row in rows} == set(members)
    for name, digest, size in rows:
        if not name.endswith("RECORD"):
            told = base64.urlsafe_b64encode(hashlib.sha256(members[name]).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={told}", len(members[name]))
    again = wheels.platform_wheel(pure, [library], tags, tmp_path / "again")
    assert made.read_bytes() == again.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs_gcc
def test_an_environment_without_a_compiler_is_as_fast(wheels, tmp_path):
    """The wheel of this machine, in an environment that has SciFM from it and all else from here."""
    kind = f"linux-{wheels.HOST.machine}"
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "dist"), "--for", kind]
    subprocess.run(command, check=True, timeout=900, capture_output=True, text=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True, timeout=60)
    python = tmp_path / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "-q"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True, timeout=120)
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout.strip())
    (site / "all-else.pth").write_text(sysconfig.get_path("purelib") + "\n")
    bare = {"PATH": "", "CC": "/bin/false", "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}

    def said(*words: str) -> str:
        command = [str(python), "-W", "error::RuntimeWarning", *words]
        done = subprocess.run(command, env=bare, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(said("-c", "import scifm; print(scifm.__file__)").strip()).is_relative_to(site)
    answers = {answer["name"]: answer for answer in json.loads(said("-m", "scifm", "doctor", "--json"))}
    parts = [answer["told"] for name, answer in answers.items() if name.startswith("compiled")]
    assert len(parts) == 3
    assert all(told.startswith("in use, came with the package") for told in parts), parts
    said("-m", "scifm", "pretrain", "poisson-tiny", "--out", str(tmp_path / "run"), "--set", "training.num_steps=3")
    assert not list((tmp_path / "home").rglob("*.so"))
