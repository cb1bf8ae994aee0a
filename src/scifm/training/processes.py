"""Processes that train one operator together: who they are, sums over all of them, and how they are asked to stop.

They are started by ``torchrun``, ``srun`` or ``scifm pretrain --devices N`` and find each other by the variables those
set. torch.distributed is used directly: a resumed run has to be that of one process bit for bit, and FSDP2 has to be
saved into one portable file by a rule of ours.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from scifm.errors import ConfigError, RunError, StopRequested

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = [
    "ALONE", "STOP_SIGNALS", "World", "device_for", "joined", "require_alone", "stop_requests", "world_from",
]  # fmt: skip

# SIGUSR1 and SIGUSR2 are what `#SBATCH --signal` is commonly told to send; by default either would kill the process.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
_meshes: dict[str, DeviceMesh] = {}  # of the processes that are joined now, by kind of device


@dataclass(frozen=True)
class World:
    """The processes, as one of them sees them.

    Args:
        rank: which one this is, over all machines, from 0.
        size: how many there are.
        local_rank: which one this is on its machine: the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def total(self, value: float) -> float:
        """Return the sum of a number over all processes, in float64."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(tensor)
        return float(tensor)

    def any(self, flag: bool) -> bool:
        """Return whether any process says so: all stop together, or none."""
        return self.total(float(flag)) > 0

    def stop_of_all(self, own: KeyboardInterrupt | None) -> KeyboardInterrupt | None:
        """Return what all processes end with once any was asked to stop; Ctrl-C in one of them is Ctrl-C in all."""
        if self.size == 1 or not self.any(own is not None):
            return own
        if self.any(own is not None and not isinstance(own, StopRequested)):
            return KeyboardInterrupt()
        return own or StopRequested("another process")

    def gather(self, values: Tensor) -> Tensor:
        """Return the values ``(n, …)`` of all processes, one after the other by rank; lengths may differ."""
        if self.size == 1:
            return values
        parts: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(parts, values.cpu())
        return torch.cat([part for part in parts if part is not None]).to(values.device)

    def mesh(self, device_type: str) -> DeviceMesh:
        """Return the processes in one row, as FSDP wants them; they have to be joined."""
        from torch.distributed.device_mesh import init_device_mesh

        if device_type not in _meshes:
            _meshes[device_type] = init_device_mesh(device_type, (self.size,))
        return _meshes[device_type]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


def device_for(accelerator: str, world: World) -> torch.device:
    """Return the device of this process: of the GPUs of a machine, each takes its own.

    Args:
        accelerator: ``cpu``, ``cuda``, or ``auto``: the best there is.

    Raises:
        ConfigError: if a GPU is asked for and there is none.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", world.local_rank if world.size > 1 else 0)
    if accelerator == "cuda":
        raise ConfigError("training.accelerator = 'cuda' needs a GPU that torch can use, and there is none here.")
    return torch.device("mps" if accelerator == "auto" and torch.backends.mps.is_available() else "cpu")


def world_from(environment: Mapping[str, str] = os.environ) -> World:
    """Return what torchrun or Slurm says of this process; one process alone if neither says anything.

    Slurm is listened to only where a rendezvous is set (``MASTER_ADDR``): a shell inside an allocation has its
    variables too.

    Raises:
        ConfigError: if the variables are incomplete or no numbers.
    """
    for names in (_TORCHRUN, _SLURM):
        given = [name for name in names if name in environment]
        if not given or (names is _SLURM and "MASTER_ADDR" not in environment):
            continue
        try:
            rank, size, local_rank = (int(environment[name]) for name in names)
        except (KeyError, ValueError) as error:
            raise ConfigError(f"The launcher's variables {', '.join(names)} must all be numbers; {error!r}.") from error
        if not 0 <= rank < size:
            raise ConfigError(f"{names[0]} = {rank} and {names[1]} = {size} do not fit: ranks run from 0 to size − 1.")
        return World(rank, size, local_rank)
    return ALONE


def require_alone(what: str) -> None:
    """Refuse to do in several processes what is done by one.

    Raises:
        ConfigError: if a launcher started this process together with others.
    """
    world = world_from()
    if world.size > 1:
        raise ConfigError(
            f"{what} runs in one process, and a launcher started {world.size} (WORLD_SIZE or SLURM_NTASKS). Start it "
            "without torchrun or srun."
        )


@contextmanager
def joined(world: World, accelerator: str) -> Iterator[World]:
    """Connect this process with the others while something is done together.

    Args:
        world: from `world_from`.
        accelerator: ``cpu``, ``cuda`` or ``auto``: GPUs are connected by NCCL, everything else by gloo.

    Raises:
        ConfigError: if there is no rendezvous, or no GPU for this process.
        RunError: if the connection is lost because another process ended.
    """
    if world.size == 1 or dist.is_initialized():
        yield world
        return
    on_gpu = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    backend = "nccl" if on_gpu else "gloo"
    if backend == "nccl":
        if world.local_rank >= (num_gpus := torch.cuda.device_count()):
            raise ConfigError(
                f"Process {world.local_rank} of this machine has no GPU of its own: there are {num_gpus}. Start at "
                "most that many, or set training.accelerator=cpu."
            )
        torch.cuda.set_device(world.local_rank)
    # Defaults of its functions are the group there is when it is first imported, as DDP does: then it is kept for ever.
    importlib.import_module("torch.distributed.nn.functional")
    try:
        dist.init_process_group(backend, rank=world.rank, world_size=world.size)
    except (ValueError, dist.DistError) as error:
        raise ConfigError(
            f"{world.size} processes cannot find each other: {error}. Start them with torchrun, or set MASTER_ADDR and "
            "a MASTER_PORT that is free on that machine."
        ) from error
    try:
        yield world
        dist.barrier()  # nobody leaves while another still listens to it
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(words in str(error) for words in _LOST):
            raise  # gloo raises plain RuntimeErrors
        raise RunError(
            f"Process {world.rank} of {world.size} lost the others ({' '.join(str(error).split())[-120:]}): one of "
            "them ended. Give the same command again to go on from the last saved state."
        ) from error
    finally:
        _leave()


def _leave() -> None:
    """End the group and its threads: one that still lives when Python ends can end the process with SIGABRT."""
    dist.destroy_process_group()
    for mesh in _meshes.values():  # torch's caches keep meshes for ever, and a mesh keeps its group
        getattr(mesh, "_pg_registry", {}).clear()
    _meshes.clear()
    gc.collect()  # wrappers of DDP, which hold the group too, lie in cycles


@contextmanager
def stop_requests() -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Turn the first signal to stop into a question asked between steps; a second Ctrl-C interrupts at once.

    The question is answered with what to raise once everything is saved, None while nobody asked. A signal that is
    ignored stays so: whoever put us in the background or behind nohup does not want it heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    requests: list[int] = []

    def note(number: int, frame: Any) -> None:
        if requests and number == signal.SIGINT:
            raise KeyboardInterrupt
        requests.append(number)

    def answer() -> KeyboardInterrupt | None:
        if not requests:
            return None
        first = requests[0]
        return KeyboardInterrupt() if first == signal.SIGINT else StopRequested(signal.Signals(first).name)

    heard = [n for n in (signal.SIGINT, *STOP_SIGNALS) if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield answer
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
