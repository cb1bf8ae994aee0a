"""What every test stands on: one thread, one seed, no surprise from the machine."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is loaded, and inherited by every process a test starts: sums in one order, workers that do not fight.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import pytest
import torch

import shape_checker  # noqa: F401  before anything of scifm is loaded
from calls import Said
from emulated import Emulated
from scifm.native import Code

torch.set_num_threads(1)
# A shell that put us in the background has it ignored; tests send it to themselves and to what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("scifm", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("scifm")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Return the path of an installed Chromium, or None. SCIFM_CHROMIUM overrides the search."""
    override = os.environ.get("SCIFM_CHROMIUM")
    return override or next(filter(None, map(shutil.which, _BROWSERS)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    missing = {
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
        "network": None if os.environ.get("SCIFM_TEST_NETWORK") == "1" else "SCIFM_TEST_NETWORK is not 1",
        "browser": None if find_browser() else "no Chromium found",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Take what is loaded for good, torch and all tests, out of the rounds of the garbage collector."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_seed_and_settings() -> Iterator[None]:
    """Start every test from one seed, and catch a test that leaves a global torch setting changed."""
    torch.manual_seed(0)
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    yield
    after = (torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    assert after == before, f"this test left torch's (dtype, threads, determinism) at {after}, they were {before}"


@pytest.fixture
def generator() -> torch.Generator:
    """Return a CPU generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """Return the folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Return the path of an installed Chromium; skip the test where there is none."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium found")
    return path


@pytest.fixture(scope="session")
def emulated(tmp_path_factory) -> Iterator[Callable[[Code], Emulated]]:
    """Return what compiles C files for ARM and runs them under an emulator; it skips the test where there is none."""
    made: dict[Code, Emulated] = {}

    def library(code: Code) -> Emulated:
        if code not in made:
            made[code] = Emulated(code, tmp_path_factory.mktemp("emulated"))
        return made[code]

    yield library
    for one in made.values():
        one.close()


@pytest.fixture
def scifm(monkeypatch, capsys):
    """Return a function that calls the command as a shell would."""

    from scifm import cli

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["scifm", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        streams = capsys.readouterr()
        return Said(int(end.value.code or 0), streams.out, streams.err)

    return call
