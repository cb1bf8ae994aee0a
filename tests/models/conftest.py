"""The compiled kernels at every width of vectors that can be run here, and emulated ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulated import Emulated
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
def lanes(request, tmp_path_factory) -> Iterator[int]:
    """Let the kernels have vectors of so many numbers; those wider than the processor's are worked on in parts."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param is not None:
            library = native.compiled(request.param * 32, min(request.param, _WIDEST) * 32)
            patch.setattr(native, "library", lambda: library)
            yield request.param
            return
        library = Emulated(native.sources(128), tmp_path_factory.mktemp("emulated"))
        native.set_tables(library, 128)
        patch.setattr(native, "library", lambda: library)
        yield 4
        library.close()


@pytest.fixture(scope="module", params=[pytest.param(False, id="this processor"), _NEON])
def jets_library(request, tmp_path_factory) -> Iterator[None]:
    """Let networks of coordinates have the compiled jets of this processor, or emulated ones."""
    if request.param is False:
        yield
        return
    library = Emulated(compiled_jets.sources(128), tmp_path_factory.mktemp("emulated"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_jets, "library", lambda: library)
        yield
    library.close()
