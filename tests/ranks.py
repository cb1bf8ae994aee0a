"""What several processes do together in the tests, and how they are started: ``python tests/ranks.py CASES FOLDER``.

Starting a process costs seconds, so one pair of them carries out many cases; each process leaves its results in
FOLDER, a file a case. The same functions, called with `ALONE`, say what one process finds.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import networks
import tiny
from scifm.data.generate import generate
from scifm.data.origins import SystemOrigin
from scifm.data.stream import BatchSource, Epochs, MixtureStream, Stream
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.models.fno import FNO, FNOConfig
from scifm.models.module_operator import ModuleOperator
from scifm.models.neuralop_fno import NeuralopFNO, NeuralopFNOConfig
from scifm.models.operator import Operator
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Checkpoint
from scifm.training.loop import TrainingConfig, train
from scifm.training.processes import ALONE, World, joined, world_from

__all__ = ["AVERAGED", "CASES", "SLURM", "TORCHRUN", "Part", "fresh", "mixture", "settings", "together", "trained"]

Result = dict[str, Any]
Part = Mapping[str, str]
SIZE = 2
AVERAGED = {"gradient_clip": 0.5, "ema_decay": 0.9}

TORCHRUN = {"RANK": "{rank}", "WORLD_SIZE": "{size}", "LOCAL_RANK": "{rank}"}
SLURM = {
    "SLURM_PROCID": "{rank}", "SLURM_NTASKS": "{size}", "SLURM_LOCALID": "{rank}", "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "{size}", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
}  # fmt: skip


def settings(**changes: Any) -> TrainingConfig:
    tree = {**tiny.TRAINING, "num_steps": 20, "batch_size": 8, "precision": "64-true", "validate_every": 4}
    return TrainingConfig(**{**tree, "checkpoint_every": 4, **changes})


def mixture(batch_size: int) -> MixtureStream:
    """Return batches of two systems whose samples count 1 and 3."""
    systems, weights = [Poisson(), AdvectionDiffusion()], {"weights": [1.0, 2.0], "loss_weights": [1.0, 3.0]}
    return MixtureStream(systems, tiny.GRID, **weights, batch_size=batch_size, seed=3)


def fresh(signature: Any = Poisson.signature, kind: str = "fno") -> Operator:
    torch.manual_seed(0)
    if kind == "fno":
        return FNO(signature, FNOConfig(**tiny.NETWORK))
    if kind == "neuralop_fno":
        config = NeuralopFNOConfig(n_modes=(6, 6), hidden_channels=4, n_layers=2, norm="group_norm")
        return NeuralopFNO(signature, config)
    network = {"module": networks.GlobalNet, "idle": networks.Idle, "dropping": networks.Dropping}.get(kind)
    channels = len(signature.inputs) + len(signature.coefficients)
    return ModuleOperator.wrap(networks.Tied() if network is None else network(channels, 1), signature)


def trained(
    world: World,
    *,
    kind: str = "fno",
    operator: Operator | None = None,
    source: BatchSource | None = None,
    folder: Path | None = None,
    stop_at: int | None = None,
    **changes: Any,
) -> Result:
    """Train a small network; return its weights, its scores and what it logged."""
    config = settings(**changes)
    source = source or Stream(Poisson(), tiny.GRID, batch_size=config.batch_size, seed=1, dtype=torch.float64)
    operator, events = operator or fresh(source.signature, kind), []
    validation = source.batch(10_000) if not isinstance(source, Epochs) else None

    def observe(**event: Any) -> None:
        events.append({key: value for key, value in event.items() if key != "seconds"})
        if event["event"] == "step" and event["step"] == stop_at and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # only one of them is asked

    checkpoint = Checkpoint(folder, world) if folder is not None else None
    stopped = ""
    try:
        train(
            operator, source, config=config, validation=validation, checkpoint=checkpoint, observe=observe, world=world
        )  # fmt: skip
    except KeyboardInterrupt as stop:
        stopped = repr(stop)
    scores = [event["relative_l2"] for event in events if event["event"] == "valid"]
    steps = [event["step"] for event in events if event["event"] == "step"]
    return {
        "weights": {name: value.clone() for name, value in operator.state_dict().items()},
        "scores": scores,
        "losses": [event["loss"] for event in events if event["event"] == "train"],
        "steps": steps,
        "stopped": stopped,
    }


# --- cases: each is called by every process ---------------------------------------------------------------------------


def ddp(world: World, folder: Path) -> Result:
    return trained(world, folder=folder / "ddp", **AVERAGED)


def fsdp(world: World, folder: Path) -> Result:
    return trained(world, folder=folder / "fsdp", **AVERAGED, strategy="fsdp")


def unequal_ddp(world: World, folder: Path) -> Result:
    return trained(world, source=mixture(7), batch_size=7, micro_batches=2, objective="mean_squared_error")


def unequal_fsdp(world: World, folder: Path) -> Result:
    return trained(
        world, source=mixture(7), batch_size=7, micro_batches=2, objective="mean_squared_error", strategy="fsdp"
    )  # fmt: skip


def kinds(world: World, folder: Path) -> Result:
    """Train networks of other kinds, in both ways of sharing."""
    found = {}
    for kind in ("neuralop_fno", "module", "idle"):
        for strategy in ("ddp", "fsdp"):
            found[f"{kind} {strategy}"] = trained(world, kind=kind, strategy=strategy, num_steps=10)["weights"]
    found["complex ddp"] = trained(world, kind="complex", source=_plain(), num_steps=10)["weights"]
    if world.size > 1:
        found["complex fsdp"] = _refusal(lambda: trained(world, kind="complex", source=_plain(), strategy="fsdp"))
    return found


def evolving(world: World, folder: Path) -> Result:
    """Two frames of Burgers in, marched by two steps, in unequal shares and pieces; both ways of sharing."""
    origin = SystemOrigin.of(Burgers(num_frames=5), Grid.square(16, num_spatial_dims=1), Window(2, 2))
    found = {}
    for strategy in ("ddp", "fsdp"):
        torch.manual_seed(0)
        network = FNOConfig(**tiny.NETWORK).on(origin.grid, history=2, lead_time=True)
        found[strategy] = trained(
            world, operator=FNO(origin.signature, network), source=origin.stream(7, 1), batch_size=7, micro_batches=2,
            num_steps=10, strategy=strategy,
        )  # fmt: skip
    return found


def _plain() -> Epochs:
    """Return samples with one input and no coefficient."""
    from dataclasses import replace

    batch = tiny.batch(8, dtype=torch.float64)
    signature = replace(batch.signature, coefficients=())
    return Epochs(replace(batch, signature=signature, coefficients=batch.coefficients[:, :0]), batch_size=8, seed=0)


def _refusal(work: Callable[[], Any]) -> str:
    try:
        work()
    except ConfigError as error:
        return str(error)
    return "not refused"


def stop_and_go_on(world: World, folder: Path) -> Result:
    """Stop one process at step 9, all save; go on in the same folder."""
    found = {}
    for strategy in ("ddp", "fsdp"):
        place = folder / f"stopped-{strategy}"
        found[f"{strategy} stopped"] = trained(world, folder=place, stop_at=9, **AVERAGED, strategy=strategy)
        world.wait()
        if world.is_first:  # for one process to go on from
            _copy(place, folder / f"left-{strategy}")
        world.wait()
        found[f"{strategy} resumed"] = trained(world, folder=place, **AVERAGED, strategy=strategy)
    return found


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)


def dropout(world: World, folder: Path) -> Result:
    """Train with dropout, straight and stopped at step 3."""
    straight = trained(world, kind="dropping", num_steps=6, folder=folder / "straight")
    trained(world, kind="dropping", num_steps=6, folder=folder / "dropping", stop_at=3)
    world.wait()
    resumed = trained(world, kind="dropping", num_steps=6, folder=folder / "dropping")
    world.wait()
    for result, name in ((straight, "straight"), (resumed, "dropping")):
        last = load_file(folder / name / "step-00000006.safetensors")
        result["generator"] = last["generator/cpu"][world.rank]
    return {"straight": straight, "resumed": resumed}


class _Watched:
    """A split that notes which samples are read."""

    def __init__(self, split: Any) -> None:
        self.split, self.read = split, []
        self.signature, self.grid, self.num_samples = split.signature, split.grid, split.num_samples
        self.lead_times, self.gaps = split.lead_times, split.gaps

    def some(self, count: int) -> Batch:
        return self.split.some(count)

    def batch(self, index: torch.Tensor) -> Batch:
        self.read.append(index.tolist())
        return self.split.batch(index)


def store(world: World, folder: Path) -> Result:
    """Go once round a store of 21 samples in batches of 7."""
    if world.is_first:
        generate(Poisson(), num_samples={"train": 21}, num_points=16, path=folder / "store")
    world.wait()
    from scifm.data.store import Store

    split = _Watched(Store.open(folder / "store").split("train"))
    found = trained(world, source=Epochs(split, batch_size=7, seed=2), batch_size=7, num_steps=3)
    return {**found, "read": split.read}


def sums(world: World, folder: Path) -> Result:
    """Ask the world everything it can be asked."""
    own = KeyboardInterrupt() if world.rank == world.size - 1 else None
    return {
        "total": world.total(world.rank + 0.5),
        "any": [world.any(False), world.any(world.rank == world.size - 1)],
        "gather": world.gather(torch.full((world.rank + 1, 2), float(world.rank))),
        "stop": [repr(world.stop_of_all(None)), repr(world.stop_of_all(own))],
    }


def too_few(world: World, folder: Path) -> Result:
    return {"told": _refusal(lambda: trained(world, batch_size=3, micro_batches=2))}


CASES: dict[str, Callable[[World, Path], Result]] = {
    case.__name__: case
    for case in (ddp, fsdp, unequal_ddp, unequal_fsdp, kinds, evolving, stop_and_go_on, dropout, store, sums, too_few)
}


def together(cases: list[str], folder: Path, *, variables: Part = TORCHRUN, size: int = SIZE) -> list[Result]:
    """Start processes, have them carry out cases, and return what each found, by case."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    started = []
    for rank in range(size):
        own = {name: text.format(rank=rank, size=size) for name, text in variables.items()}
        environment = {**os.environ, **own, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, ",".join(cases), str(folder)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        said = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * size, "\n".join(said)
    return [
        {case: torch.load(folder / f"{case}-{rank}.pt", weights_only=True) for case in cases} for rank in range(size)
    ]


def _threads_of_groups() -> list[str]:
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]
    return [name for name in names if "gloo" in name or "tcpstore" in name]


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(sys.argv[2])
    with joined(world_from(), "cpu") as found_world:
        assert found_world != ALONE
        for name in sys.argv[1].split(","):
            torch.save(CASES[name](found_world, here), here / f"{name}-{found_world.rank}.pt")
            found_world.wait()
    assert not _threads_of_groups(), "torch's threads may not outlive their group: they can end the process badly"
