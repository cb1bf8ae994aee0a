"""What the tests of studies share: a whole study takes ten seconds, and is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory) -> Path:
    """Return the folder of `tiny.graph_study`, finished. Whoever changes it changes a copy."""
    return study(StudyRecipe.read(tiny.graph_study()), out=tmp_path_factory.mktemp("studies") / "whole")
