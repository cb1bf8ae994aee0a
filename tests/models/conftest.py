"""The compiled kernels at every width of vectors that can be run here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scifm.models.parts import native
from scifm.native import vector_flags, width

_WIDEST = width() // 32


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(4, id="128 bits"),
        pytest.param(8, id="256 bits"),
        pytest.param(16, id="512 bits", marks=[] if _WIDEST == 16 else pytest.mark.slow),  # compiled in half a minute
    ],
)
def lanes(request) -> Iterator[int]:
    """Let the kernels have vectors of so many numbers; those wider than the processor's are worked on in parts."""
    library = native.compiled(request.param, vector_flags(min(request.param, _WIDEST) * 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: library)
        yield request.param
