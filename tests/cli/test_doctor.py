"""``scifm doctor``: what is installed, what is fast, what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import namedtuple

import pytest

from scifm.cli import doctor


def answers(said) -> dict[str, dict]:
    return {answer["name"]: answer for answer in json.loads(said.out)}


def test_a_sound_installation(scifm):
    said = scifm("doctor", "--json")
    assert said.status == 0, said.out
    found = answers(said)
    assert "torch 2." in found["packages"]["told"]
    assert found["torch on the CPU"]["good"]
    assert found["extra 'formats'"]["told"] == "installed"
    assert all(answer["remedy"] for answer in found.values() if answer["good"] is False)
    assert "torch on the CPU" in scifm("doctor").out


def test_what_is_missing_has_a_remedy(scifm, monkeypatch):
    monkeypatch.setattr(doctor, "_is_installed", lambda name: name not in ("onnx", "zarr"))
    found = answers(scifm("doctor", "--json"))
    assert found["extra 'export'"] == {
        "name": "extra 'export'",
        "good": None,
        "told": "missing: onnx",
        "remedy": "pip install 'scifm[export]'",
    }


def test_a_full_disk_is_a_fault(scifm, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage(10, 9, 10**6))
    said = scifm("doctor")
    assert said.status == 1
    assert "1 MB free" in said.out


@pytest.mark.parametrize(("setting", "told"), [("0", "SCIFM_NATIVE=0 is set"), ("1", "no C compiler was found")])
def test_slow_parts_say_why(tmp_path, monkeypatch, setting, told):
    monkeypatch.setenv("SCIFM_NATIVE", setting)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    code = "from scifm.cli import main; import sys; sys.argv = ['scifm', 'doctor']; main()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    assert told in said.stdout
