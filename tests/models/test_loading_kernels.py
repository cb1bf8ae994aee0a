"""The compiled kernels are loaded where they can be had, as wide as asked for; where they cannot, one is told."""

from __future__ import annotations

import warnings

import pytest
import torch

import scifm.native
from compiled_anew import emptied
from scifm.errors import ConfigError
from scifm.models.parts import native

pytestmark = pytest.mark.skipif(native.library() is None, reason="the C kernels need Linux and a C compiler")


def test_a_narrower_width_is_the_users_choice(monkeypatch):
    has = scifm.native.width()
    for bits in (128, 256, 512):
        monkeypatch.setenv("SCIFM_NATIVE_WIDTH", str(bits))
        assert scifm.native.width() == min(bits, has)
    monkeypatch.setenv("SCIFM_NATIVE_WIDTH", "8 lanes")
    with pytest.raises(ConfigError, match=r"must be 128, 256 or 512.*got '8 lanes'"):
        scifm.native.width()


def test_a_call_with_a_forgotten_argument_is_refused():
    with pytest.raises(TypeError, match=r"takes 7 arguments; got 1"):
        native.library().call("mix", 3)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    with emptied(monkeypatch, tmp_path, native.library) as folder:
        yield folder


def test_it_is_compiled_once(fresh):
    first = native.library()
    made = list((fresh / "scifm").iterdir())
    assert first is not None
    assert [path.suffix for path in made] == [".so"]
    native.library.cache_clear()
    stamp = made[0].stat().st_mtime_ns
    assert native.library() is not None
    assert made[0].stat().st_mtime_ns == stamp


def test_the_user_may_turn_it_off(fresh, monkeypatch):
    monkeypatch.setenv("SCIFM_NATIVE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.library() is None


def test_no_compiler_is_said_once(fresh, monkeypatch):
    monkeypatch.setattr(scifm.native.shutil, "which", lambda name: None)
    with pytest.warns(RuntimeWarning, match=r"no C compiler was found.*SCIFM_NATIVE=0"):
        assert native.library() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.library() is None


def test_a_compiler_that_fails_is_quoted(fresh, monkeypatch):
    compiler = fresh / "bad-cc"
    compiler.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no such option: -fopenmp' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.warns(RuntimeWarning, match="no such option: -fopenmp"):
        assert native.library() is None


def test_other_precisions_and_devices_go_through_torch():
    assert native.native_for(torch.zeros(1, dtype=torch.float64)) is None
    assert native.native_for(torch.zeros(1, device="meta")) is None
    assert native.native_for(torch.zeros(1)) is not None
    assert native.native_for(torch.zeros(0)) is None  # work is cut by the size of a row, which must not be zero
