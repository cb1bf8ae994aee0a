"""The one seed rule of the library.

Every random number comes from a generator made by `generator_for` out of the user's seed and the name of its use.
Streams with different names are independent: adding a consumer of randomness never changes what another one draws.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import torch

from scifm.errors import ConfigError

__all__ = ["GLOBAL_GENERATOR", "generator_for"]

_MAX_SEED = 2**63

GLOBAL_GENERATOR = threading.Lock()
"""To be held while torch's global generator is set and drawn from: constructors of layers do, and threads share it."""


def generator_for(seed: int, *stream: int | str, device: Any = None) -> torch.Generator:
    """Return the generator of one named stream of random numbers.

    The state is the SHA-256 digest of (seed, *stream), so it is the same in every process and on every platform, and
    ``generator_for(0, "train", 1)`` shares nothing with ``generator_for(0, "train", "1")`` or ``generator_for(1, …)``.
    The numbers a generator gives still depend on the kind of device it lives on (CPU and CUDA algorithms differ).

    Args:
        seed: the user's seed, 0 ≤ seed < 2**63.
        *stream: names and integers that say what the numbers are for, for example ``"split", 3``.
        device: where the generator lives; the CPU when None.

    Raises:
        ConfigError: if the seed is no integer in range, or a part of the stream is neither an integer nor a string.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _MAX_SEED:
        raise ConfigError(f"A seed is an integer from 0 to 2**63 - 1; got {seed!r}.")
    for part in stream:
        if isinstance(part, bool) or not isinstance(part, (int, str)):
            raise ConfigError(f"A random stream is named by integers and strings; got {part!r} in {stream!r}.")
    name = json.dumps([seed, *stream], ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256(name.encode("ascii")).digest()
    generator = torch.Generator(device="cpu" if device is None else device)
    generator.manual_seed(int.from_bytes(digest[:8], "big") % _MAX_SEED)
    return generator
