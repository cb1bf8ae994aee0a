"""The compiled kernels at every width of vectors that can be run here, and emulated ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scifm.models.parts import compiled_jets, native
from scifm.native import width

_WIDEST = width() // 32
_NEON = pytest.param(None, id="NEON, emulated", marks=pytest.mark.slow)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(4, id="128 bits"),
        pytest.param(8, id="256 bits"),
        pytest.param(16, id="512 bits", marks=[] if _WIDEST == 16 else pytest.mark.slow),  # compiled in half a minute
        _NEON,
    ],
)
def lanes(request) -> Iterator[int]:
    """Let the kernels have vectors of so many numbers; those wider than the processor's are worked on in parts."""
    if request.param is None:
        library = request.getfixturevalue("emulated")(native.sources(128))
        native.set_tables(library, 128)
    else:
        library = native.compiled(request.param * 32, min(request.param, _WIDEST) * 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: library)
        yield request.param or 4


@pytest.fixture(params=[pytest.param(False, id="this processor"), _NEON])
def jets_library(request, monkeypatch) -> None:
    """Let networks of coordinates have the compiled jets of this processor, or emulated ones."""
    if request.param is None:
        library = request.getfixturevalue("emulated")(compiled_jets.sources(128))
        monkeypatch.setattr(compiled_jets, "library", lambda: library)
