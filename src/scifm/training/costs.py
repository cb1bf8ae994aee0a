"""What training will need in memory, told before it starts, and the operations of a step, counted.

Weights, gradients and moments are counted. What a step holds besides (activations, their gradients) is measured on an
eighth and on a quarter of a batch, forward and backward, by adding up every tensor that comes to life; the difference
is what samples cost. Scratch memory inside compiled kernels, what the allocator keeps, libraries loaded on first use
and the sampling of a stream are not seen, so the sum is a lower bound. Measured on five networks of 9 to 150 MB on a
CPU, the process grew by 1.1 to 1.7 times as much.
"""

from __future__ import annotations

import copy
import re
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from scifm.config import Plain
from scifm.errors import RunError
from scifm.fields.batch import Batch
from scifm.models.operator import Operator
from scifm.training.weights import bytes_of

__all__ = [
    "MemoryNeed", "available_memory", "measure_need", "product_counter", "require_memory", "training_flops",
]  # fmt: skip


@dataclass(frozen=True)
class MemoryNeed(Plain):
    """Bytes, beside what is in memory already.

    Args:
        weights: of the operator; in memory already, told for comparison.
        optimizer: what it keeps for every weight that trains, two moments as a rule.
        best: copies of the weights: the best ones, where early stopping keeps them, and their moving average.
        working: most that a step holds at one time: gradients, activations, their gradients.
        saving: the state as it is written, twice, while gradients are still there; 0 where nothing is saved.
    """

    weights: int
    optimizer: int
    best: int
    working: int
    saving: int

    @property
    def total(self) -> int:
        """The most that will be asked for at one time."""
        return self.optimizer + self.best + max(self.working, self.saving)

    def to_dict(self) -> dict[str, int]:
        return {**super().to_dict(), "total": self.total}


class _Tally(TorchDispatchMode):
    """Adds up the memory of every tensor that is made, until nothing refers to it any more."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen: dict[int, Any] = {tensor.untyped_storage()._cdata: None for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return
        self.live += size
        self.peak = max(self.peak, self.live)
        self.seen[key] = weakref.ref(storage, lambda _: self._forget(key, size))

    def _forget(self, key: int, size: int) -> None:
        del self.seen[key]
        self.live -= size


def _step_peak(module: nn.Module, loss_of: Callable[[Any, Batch], Tensor], batch: Batch) -> int:
    """Return the most that a step on `batch` holds."""
    tally = _Tally([*module.parameters(), *module.buffers()])
    with tally:
        _gradients(module, loss_of, batch)
    return tally.peak


def _gradients(module: nn.Module, loss_of: Callable[[Any, Batch], Tensor], batch: Batch) -> None:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    torch.autograd.grad(loss_of(module, batch), trained, allow_unused=True)


def measure_need(
    module: nn.Module,
    loss_of: Callable[[Any, Batch], Tensor],
    batch: Batch,
    *,
    keeps_best: bool,
    saves: bool,
    keeps_average: bool = False,
    num_moments: int = 2,
) -> MemoryNeed:
    """Return what training `module` on batches like `batch` needs.

    Args:
        module: its weights; those that need a gradient train. It is copied, and the copy measured, so that nothing of
            the measurement stays with it: neither buffers nor memory kept between steps. What it draws it draws from
            the generator that the caller lends it.
        batch: the first batch, on the module's device.
        num_moments: numbers the optimizer keeps for every weight.
    """
    trained = bytes_of(parameter for parameter in module.parameters() if parameter.requires_grad)
    weights = bytes_of([*module.parameters(), *module.buffers()])
    twin, few = copy.deepcopy(module), -(-batch.num_samples // 8)
    _gradients(twin, loss_of, batch.select(slice(0, 1)))  # tables made on first use and kept belong to no step
    working = _step_peak(twin, loss_of, batch.select(slice(0, few)))
    if batch.num_samples > few:
        more = _step_peak(twin, loss_of, batch.select(slice(0, 2 * few)))
        working += round(max(0, more - working) * (batch.num_samples - few) / few)
    best = (weights if keeps_best else 0) + (trained if keeps_average else 0)
    on_host = next(module.parameters()).device.type == "cpu"  # elsewhere it is the host's memory that saving takes
    state = weights + num_moments * trained + best
    saving = trained + 2 * state if saves and on_host else 0  # twice: safetensors makes tensors and file
    return MemoryNeed(weights, num_moments * trained, best, working, saving)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _left_in_groups(root: Path, memberships: str) -> list[int]:
    """Return what every control group above this process leaves; version 2 or the memory controller of version 1."""
    left = []
    for line in memberships.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / path.strip("/")
        for place in (folder, *folder.parents):
            limit, used = (_text(place / name) for name in names)
            if limit.isdigit() and used.isdigit():  # else "max": no limit
                cached = re.search(r"^inactive_file (\d+)", _text(place / "memory.stat"), re.M)  # used, but gives way
                left.append(int(limit) - int(used) + (int(cached[1]) if cached else 0))
            if place == base:
                break
    return left


def available_memory(device: torch.device, *, groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that may still be taken on a device; on the host the tightest of machine and control groups."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = int(psutil.virtual_memory().available)
    return max(0, min([available, *_left_in_groups(groups, _text(Path("/proc/self/cgroup")))]))  # Linux alone has it


def require_memory(need: MemoryNeed, available: int, *, batch_size: int) -> None:
    """Check that training fits.

    Raises:
        RunError: if it does not; says what takes the memory and what would help.
    """
    if need.total <= available:
        return
    advice = "Choose a smaller model.size"
    if need.working > need.saving and batch_size > 1:
        share = max(0.0, (available - need.optimizer - need.best) / need.working)
        fitting = int(share * batch_size)
        advice = f"Lower training.batch_size, to {fitting} for example" if fitting else "Lower training.batch_size"
        advice += ", choose a smaller model.size, or a coarser latent grid (latent_points of the network)"
    raise RunError(
        f"Training needs about {need.total / 1e9:.2f} GB more and {available / 1e9:.2f} GB are free: optimizer "
        f"{need.optimizer / 1e9:.2f} GB, a step of {batch_size} samples {need.working / 1e9:.2f} GB, saving the state "
        f"{need.saving / 1e9:.2f} GB. {advice}."
    )


def training_flops(operator: Operator, batch: Batch) -> float | None:
    """Return the floating-point operations of one sample's forward and backward pass.

    Matrix products as torch does them, an addition and a multiplication counted as two; element-wise steps and Fourier
    transforms are left out. On a CPU whose kernels fold pairs of points fewer are done; the count is the same on every
    machine, which is what comparisons need. A product of complex matrices counts as one of real matrices.

    Args:
        batch: at least one sample with targets, on the grid in question.

    Returns:
        The count; None where torch sees no matrix product, as in a network that does all its work another way.
    """
    one, network = batch.select(slice(0, 1)), copy.deepcopy(operator)
    dtype = operator.counted_in or operator.home[1]
    if operator.counted_in is not None:
        network = network.to(dtype)
    one = one.to(dtype=dtype)
    counter = product_counter()
    with torch.inference_mode(False), torch.enable_grad(), counter:
        network(one).require_targets().square().sum().backward()
    return float(counter.get_total_flops()) or None


def product_counter() -> FlopCounterMode:
    """Return a context that counts the matrix products torch does inside it, those added in place included."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _product})


def _product(
    onto: torch.Size,
    first: torch.Size,
    second: torch.Size,
    *others: object,
    out_shape: object = None,
    **settings: object,
) -> int:
    batch, rows, depth = first
    return 2 * batch * rows * depth * second[2]
