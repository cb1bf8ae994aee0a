"""The one seed rule of the library.

Every random number comes from a generator made by `generator_for` out of the user's seed and the name of its use.
Streams with different names are independent: adding a consumer of randomness never changes what another one draws.

torch's constructors of layers know no generator but the global one, which threads share. Our own networks are built
under `DrawingFrom`, which gives them another. Someone else's network may also set the global generator, or save and
restore it, while it is built and while it trains: `lent_to_torch` puts ours in its place, for one network at a time.
Nothing else in the library touches it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scifm.errors import ConfigError

__all__ = ["DrawingFrom", "generator_for", "lent_to_torch"]

_MAX_SEED = 2**63
_LENT = threading.RLock()  # held while torch's global generators are not the caller's


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


class DrawingFrom(TorchDispatchMode):
    """While entered, torch's random functions draw from `generator` where they are given none; in this thread only.

    Args:
        generator: on the CPU, as everything drawn must be; what is built on the meta device draws nothing.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        devices = {str(leaf.device) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        if "meta" in devices or str(kwargs.get("device")) == "meta":
            return func(*args, **kwargs)
        if "generator" not in (argument.name for argument in func._schema.arguments):
            func = func.overloadpacket.generator  # torch.randn and its like have a second form for one
        return func(*args, **{**kwargs, "generator": self.generator})


def _global_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_global_state(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@contextmanager
def lent_to_torch(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Let torch's global generators go on from these, which take what was drawn; the global ones are then as before.

    One thread at a time: another one waits here. Code that draws from a global generator in another thread without
    asking here can still come between.

    Args:
        generators: at most one for each device.
    """
    with _LENT:
        before = [_global_state(generator.device) for generator in generators]
        try:
            for generator in generators:
                _set_global_state(generator.device, generator.get_state())
            yield
            for generator in generators:
                generator.set_state(_global_state(generator.device))
        finally:
            for generator, state in zip(generators, before, strict=True):
                _set_global_state(generator.device, state)
