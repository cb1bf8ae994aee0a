"""A GPU that is none: tensors on the CPU that are marked as lying on ``cuda:0``, and torch as it would treat them.

Numbers are those of the CPU, so what is computed there can be held to what is computed here, bit for bit. What a GPU
refuses is refused (tensors of two devices in one operation, a generator of the other device, NumPy's look at a tensor),
and what a GPU does silently is written down: copies between the devices, and all that waits for the GPU to finish.

A mark hangs on the storage, so that views, weights whose ``data`` is replaced and results of backward passes have it.
"""

from __future__ import annotations

import traceback
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scifm import native

__all__ = ["GPU", "Pretended", "pretended_gpu", "without_kernels"]

GPU = torch.device("cuda", 0)
_OURS = str(Path(native.__file__).parent)
_Generator = torch.Generator
_WAITS = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero",
    "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::linalg_eig", "aten::_linalg_eigh",
}  # fmt: skip
"""Operations whose answer, or the shape of it, has to be known to the host (the last two ask for their status)."""
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
_TOGETHER = {"aten::copy_", "aten::_foreach_copy_"}  # go from one device to the other
_LOOKS = {Tensor.numpy: "numpy", Tensor.__array__: "__array__"}
_MARKS: dict[int, StorageWeakRef] = {}
"""Storages that lie there, of all such GPUs that ever were: tables are kept by device, longer than a test lasts."""
_OPEN: dict[int, StorageWeakRef] = {}
"""Storages that autograd itself made, as zeros: they lie where the first tensor does that they meet."""


class _GeneratorThere(_Generator):
    """A generator on the GPU, which draws the numbers of one on the CPU."""

    device = GPU

    def clone_state(self) -> _GeneratorThere:
        again = _GeneratorThere()
        again.set_state(self.get_state())
        return again


class _GeneratorAnywhere(type):
    def __call__(cls, device: Any = "cpu") -> torch.Generator:
        return _GeneratorThere() if torch.device(device).type == "cuda" else _Generator(device)

    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, _Generator)


class _AnyGenerator(metaclass=_GeneratorAnywhere):
    """What ``torch.Generator`` is in the meantime."""


def _plain(tensor: Tensor) -> Tensor:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@cache
def _seen_through(function: Any) -> Any:
    """Return a function that torch writes in Python without its first line, by which it hands itself to who sees calls.

    So what it calls is seen in turn. Any other one as it is.
    """
    if not isinstance(function, types.FunctionType) or function is Tensor.__deepcopy__:
        return function
    asks = [name for name in function.__code__.co_names if name.startswith("has_torch_function")]
    if any(name not in function.__globals__ for name in asks):
        return function
    names = {**function.__globals__, **dict.fromkeys(asks, lambda *_: False)}
    again = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    again.__kwdefaults__ = function.__kwdefaults__
    return again if asks else function


class _Moved(torch.autograd.Function):
    """A copy on the other device; its gradient comes back."""

    @staticmethod
    def forward(ctx: Any, gpu: Pretended, there: bool, tensor: Tensor) -> Tensor:
        ctx.gpu, ctx.there = gpu, there
        return gpu.copy(tensor, there)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.gpu.copy(gradients[0], not ctx.there)


class Pretended:
    """What lies on the GPU, and what happened between it and the host.

    Attributes:
        events: what was seen, each as ``what, where``: ``to the GPU``, ``to the host``, ``waits`` with the operation,
            and the line of the package that asked for it.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.creating = False
        self.asked = False  # whether an operation is what a call of Python's asked for
        self.draws_there: bool | None = None  # where the generator lies that a call was given

    def has(self, tensor: Tensor) -> bool:
        """Return whether a tensor lies there."""
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return False
        return _plain(tensor).untyped_storage()._cdata in _MARKS

    def mark(self, tree: Any, marks: dict[int, StorageWeakRef] = _MARKS) -> None:
        """Say that all tensors of a tree lie there."""
        for tensor in _tensors(tree):
            storage = _plain(tensor).untyped_storage()
            marks.setdefault(storage._cdata, StorageWeakRef(storage))  # the address stays its own meanwhile

    def copy(self, tensor: Tensor, there: bool) -> Tensor:
        """Return a copy of a tensor on the GPU or on the host."""
        copied = tensor.detach().clone()
        if there:
            self.mark(copied)
        else:
            _MARKS.pop(copied.untyped_storage()._cdata, None)
        return copied

    def note(self, what: str) -> None:
        """Write down what happened, and where in the package."""
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(_OURS)]
        last = frames[-1] if frames else None
        where = "" if last is None else f"{Path(last.filename).relative_to(_OURS)}:{last.lineno} {last.line}"
        self.events.append((what, where))

    @contextmanager
    def watching(self) -> Iterator[list[tuple[str, str]]]:
        """Collect what happens meanwhile in a list of its own."""
        before, self.events = self.events, []
        try:
            yield self.events
        finally:
            self.events = before + self.events

    def told(self) -> Counter[tuple[str, str]]:
        """Return how often each event happened."""
        return Counter(self.events)


class _Operations(TorchDispatchMode):
    """Sees every operation, those of backward passes too: refuses two devices, marks what comes of one there."""

    def __init__(self, gpu: Pretended) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        gpu, name = self.gpu, func._schema.name
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        there = [gpu.has(tensor) for tensor in tensors]
        if any(there):
            self._settle(tensors)
            there = [gpu.has(tensor) for tensor in tensors]
        home = any(there) or (gpu.creating and not tensors)
        if gpu.draws_there not in (None, home) and any(isinstance(leaf, _Generator) for leaf in leaves):
            raise RuntimeError(f"{name}: the generator lies on another device than what it fills (on the GPU: {home}).")
        if any(there) and not all(there):
            self._refuse(func, name, tensors, there)
        if any(there) and (name in _WAITS or (name in _INDEXING and self._by_mask(args[1]))):
            gpu.note(f"waits: {name}")
        answer = func(*args, **kwargs)
        if home and name not in _TOGETHER:
            gpu.mark(answer)
        elif self._is_open(tensors) or (not tensors and not gpu.asked and torch._C._current_graph_task_id() != -1):
            gpu.mark(answer, _OPEN)
        return answer

    def _settle(self, tensors: list[Tensor]) -> None:
        self.gpu.mark([tensor for tensor in tensors if self._is_open([tensor])])

    @staticmethod
    def _is_open(tensors: list[Tensor]) -> bool:
        return bool(_OPEN) and any(_plain(tensor).untyped_storage()._cdata in _OPEN for tensor in tensors)

    @staticmethod
    def _by_mask(indices: Any) -> bool:
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)

    def _refuse(self, func: Any, name: str, tensors: list[Tensor], there: list[bool]) -> None:
        if name == "aten::index_put" and torch._C._current_graph_task_id() != -1:
            self.gpu.mark(tensors[:1])  # the zeros that autograd puts a gradient into, made where nobody sees it
            there = [True, *there[1:]]
        alone = [tensor for tensor, far in zip(tensors, there, strict=True) if not far]
        numbers = torch.Tag.pointwise in func.tags or name.startswith(("aten::_foreach_", "aten::fill"))
        if (numbers or name == "aten::copy_") and all(not tensor.dim() for tensor in alone):
            return  # a number travels with the call
        if name in _TOGETHER or (name in _INDEXING and there[0]):  # indices may come from the host, and are copied
            self.gpu.note(f"silent copy: {name}")
            return
        shapes = [f"{tuple(t.shape)} on {GPU if far else 'cpu'}" for t, far in zip(tensors, there, strict=True)]
        raise RuntimeError(f"{name}: expected all tensors on the same device; got {', '.join(shapes)}.")


class _Calls(TorchFunctionMode):
    """Sees every call of Python: answers where a tensor lies, moves tensors, makes new ones there."""

    def __init__(self, gpu: Pretended) -> None:
        super().__init__()
        self.gpu = gpu
        self._within: list[Any] = []
        self._answers: dict[Any, Any] = {
            Tensor.device.__get__: lambda tensor: GPU if gpu.has(tensor) else tensor.device,
            Tensor.is_cuda.__get__: gpu.has,
            Tensor.is_cpu.__get__: lambda tensor: tensor.is_cpu and not gpu.has(tensor),
            Tensor.get_device: lambda tensor: 0 if gpu.has(tensor) else tensor.get_device(),
            Tensor.to: self._to,
            Tensor.cpu: lambda tensor, **_: self._moved(tensor, False),
            Tensor.cuda: lambda tensor, *_, **__: self._moved(tensor, True),
        }

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [
            isinstance(leaf, _GeneratorThere) for leaf in (*args, *kwargs.values()) if isinstance(leaf, _Generator)
        ]
        before, self.gpu.draws_there = self.gpu.draws_there, given[0] if given else self.gpu.draws_there
        try:
            return self._called(func, args, kwargs)
        finally:
            self.gpu.draws_there = before

    def _called(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func in self._answers:
            return self._answers[func](*args, **kwargs)
        if func in _LOOKS and self.gpu.has(args[0]):
            raise TypeError(f"{_LOOKS[func]}: can't convert a tensor on {GPU} to numpy. Use Tensor.cpu() first.")
        if func is Tensor.tolist and self.gpu.has(args[0]):
            self.gpu.note("waits: tolist")
        if kwargs.get("device") is not None:
            return self._made(func, args, kwargs)
        if (inside := _seen_through(func)) != func and func not in self._within:
            self._within.append(func)
            try:
                with self:
                    return inside(*args, **kwargs)
            finally:
                self._within.pop()
        handed_on = isinstance(func, torch._ops.OpOverload)  # by who sees operations too, as what measures memory
        before, self.gpu.asked = self.gpu.asked, not handed_on
        try:
            answer = func(*args, **kwargs)
        finally:
            self.gpu.asked = before
        if func in (Tensor.__deepcopy__, Tensor.new_tensor) and self.gpu.has(args[0]):
            self.gpu.mark(answer)
            if func is Tensor.new_tensor:
                self.gpu.note("numbers to the GPU")
        return answer

    def _made(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call what is told the device."""
        device = torch.device(kwargs.pop("device"))
        if device.type not in ("cpu", "cuda"):
            return func(*args, device=device, **kwargs)
        there, given = device.type == "cuda", _tensors((args, kwargs))
        before, self.gpu.creating = self.gpu.creating, there
        try:
            answer = func(*args, device="cpu", **kwargs)
        finally:
            self.gpu.creating = before
        if func in (torch.as_tensor, torch.asarray) or (given and self.gpu.has(answer) != there):
            return self._moved(answer, there)
        if there and func is torch.tensor:
            self.gpu.note("numbers to the GPU")
        if there:
            self.gpu.mark(answer)
        return answer

    def _moved(self, tensor: Tensor, there: bool) -> Tensor:
        if self.gpu.has(tensor) == there or tensor.device.type == "meta":
            return tensor
        self.gpu.note("to the GPU" if there else "to the host")
        return _Moved.apply(self.gpu, there, tensor)  # type: ignore[no-any-return, no-untyped-call]

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        there, words = None, []
        for word in args:
            if isinstance(word, Tensor):
                there = self.gpu.has(word)
                words.append(word.dtype)
            elif isinstance(word, torch.dtype):
                words.append(word)
            elif word is not None and not isinstance(word, bool):  # those say how, not where
                there = torch.device(word).type
        if isinstance(other := kwargs.pop("other", None), Tensor):
            there, words = self.gpu.has(other), [*words, other.dtype]
        if (device := kwargs.pop("device", None)) is not None:
            there = torch.device(device).type
        if there == "meta":
            return tensor.to("meta", *words, **kwargs)
        if kwargs.get("dtype", ...) is None:
            del kwargs["dtype"]
        if words or kwargs:
            tensor = tensor.to(*words, **kwargs)
        return tensor if there is None else self._moved(tensor, there in (True, "cuda"))


@contextmanager
def pretended_gpu() -> Iterator[Pretended]:
    """Let torch have a GPU for as long as this lasts; skip the test where it has one.

    Tables that the library keeps by device would otherwise be of both.
    """
    if torch.cuda.is_available():
        pytest.skip("there is a GPU; the tests marked gpu ask it")
    gpu, everyone = Pretended(), _GeneratorThere()
    autocast, is_autocast_enabled = torch.autocast, torch.is_autocast_enabled

    def kind(device: Any) -> Any:
        return "cpu" if str(device).startswith("cuda") else device

    of_torch: dict[str, Any] = {
        "Generator": _AnyGenerator,
        "autocast": lambda device_type, *args, **kwargs: autocast(kind(device_type), *args, **kwargs),
        "is_autocast_enabled": lambda *device: is_autocast_enabled(*map(kind, device)),
    }
    of_cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda *_: "a pretended GPU",
        "mem_get_info": lambda *_: (2**36, 2**36),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "synchronize": lambda *_: None,
        "get_rng_state": lambda *_: everyone.get_state(),
        "set_rng_state": lambda state, *_: everyone.set_state(state),
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch, **of_torch))
        stack.enter_context(mock.patch.multiple(torch.cuda, **of_cuda))
        stack.enter_context(_Operations(gpu))
        stack.enter_context(_Calls(gpu))
        yield gpu


@contextmanager
def without_kernels() -> Iterator[None]:
    """Let torch do the work of the compiled parts, as it does on a GPU."""
    from scifm.models.parts import compiled_jets
    from scifm.models.parts import native as layers
    from scifm.systems.solvers import volumes

    with ExitStack() as stack:
        for module in (layers, compiled_jets, volumes):
            stack.enter_context(mock.patch.object(module, "library", return_value=None))
        yield
