"""How much memory do data take that are larger than it: importing them, pre-training and fine-tuning from the store?

A foreign data set in The Well's schema (trajectories of 32 frames of 128² points, float32) of ``--gigabytes`` GiB is
made on the spot. Each step runs in a process of its own whose peak resident memory is taken from the kernel. Beside the
rates stands what the same disk does in the same run: plain writing, flushed to it, and plain reading of a file that is
not in the page cache. Nothing is left behind.

A process that only imports SciFM and torch is measured too: the rest is what data take.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from harness import Row, argument_parser, publish

GIB = 1024**3
FRAMES, POINTS = 32, 128
TRAJECTORY_BYTES = FRAMES * POINTS**2 * 4
BLOCK = 16 * 1024 * 1024
STEPS, BATCH_SIZE, MAX_FINETUNE_TRAJECTORIES = 50, 8, 256
TRAINING = {"num_steps": STEPS, "batch_size": BATCH_SIZE, "learning_rate": 1e-3, "accelerator": "cpu"}


def make_foreign(folder: Path, num_trajectories: int) -> None:
    """Write moving waves: what costs is their size, not their physics."""
    points = np.arange(POINTS) / POINTS
    x, y = np.meshgrid(points, points)
    for split, count in {"train": num_trajectories - 16, "valid": 8, "test": 8}.items():
        (folder / "data" / split).mkdir(parents=True)
        with h5py.File(folder / "data" / split / "waves.hdf5", "w") as file:
            file.attrs.update({"dataset_name": "waves", "grid_type": "cartesian", "n_spatial_dims": 2})
            file.attrs.update({"n_trajectories": count, "simulation_parameters": np.array([], h5py.string_dtype())})
            dimensions = file.create_group("dimensions")
            dimensions.attrs["spatial_dims"] = ["y", "x"]
            for name, values in {"time": np.arange(FRAMES) * 0.1, "y": points, "x": points}.items():
                vary(dimensions.create_dataset(name, data=values), time_varying=name == "time")
            scalars = file.create_group("scalars")
            scalars.attrs["field_names"] = ["speed"]
            speeds = np.linspace(0.1, 2, count)
            vary(scalars.create_dataset("speed", data=speeds), sample_varying=True)
            boundaries = file.create_group("boundary_conditions")
            for axis in ("y", "x"):
                node = boundaries.create_group(f"{axis}_periodic")
                node.attrs.update({"bc_type": "PERIODIC", "associated_dims": [axis], "associated_fields": []})
                node.create_dataset("mask", data=np.ones(POINTS, bool))
                vary(node)
            fields = file.create_group("t0_fields")
            fields.attrs["field_names"] = ["height"]
            shape = (count, FRAMES, POINTS, POINTS)
            height = fields.create_dataset("height", shape, np.float32, chunks=(1, FRAMES, POINTS, POINTS))
            height.attrs["dim_varying"] = [True, True]
            vary(height, sample_varying=True, time_varying=True)
            phase = 2 * np.pi * (3 * x + 2 * y)
            for row in range(count):
                along = (phase - 2 * np.pi * speeds[row] * 0.1 * np.arange(FRAMES)[:, None, None]).astype(np.float32)
                height[row] = np.sin(along) + 0.01 * row


def vary(node: Any, *, sample_varying: bool = False, time_varying: bool = False) -> None:
    node.attrs["sample_varying"], node.attrs["time_varying"] = sample_varying, time_varying


def disk_rates(folder: Path, num_bytes: int) -> tuple[float, float]:
    """Return how many GB a second the disk writes and reads, one after the other."""
    path, block = folder / "plain", np.random.default_rng(0).bytes(BLOCK)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(num_bytes // BLOCK):
            file.write(block)
        os.fsync(file.fileno())
    written = time.perf_counter() - start
    forget(path)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(BLOCK):
            pass
    read = time.perf_counter() - start
    path.unlink()
    return num_bytes / written / 1e9, num_bytes / read / 1e9


def forget(path: Path) -> None:
    """Ask the kernel to drop what it keeps of files in memory."""
    for file in (path,) if path.is_file() else (f for f in path.rglob("*") if f.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_bytes() -> int:
    """Return the peak resident memory of this process since it was started."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --- steps, each in a process of its own


def nothing(folder: Path) -> None:
    import scifm.data.importing
    import scifm.training.pretrain  # noqa: F401


def import_(folder: Path) -> None:
    from scifm.data.importing import import_data

    import_data(folder / "foreign", folder / "store")


def pretrain(folder: Path) -> None:
    from scifm.training.pretrain import pretrain

    network = {"width": 8, "modes": 8, "num_layers": 2}
    recipe = {"name": "tiny", "data": {"store": str(folder / "store")}, "model": {"network": network}}
    pretrain({**recipe, "training": TRAINING}, out=folder / "runs")


def finetune(folder: Path) -> None:
    from scifm.data.store import Store
    from scifm.training.finetune import finetune

    parent = next((folder / "runs").iterdir())
    store = Store.open(folder / "store")
    count = min(MAX_FINETUNE_TRAJECTORIES, store.splits["train"])
    training = {name: value for name, value in TRAINING.items() if name != "learning_rate"}
    settings = {"num_samples": count, "learning_rates": (1e-3,), "training": training}
    finetune(parent, store, out=folder / "tuned", **settings)


TASKS: dict[str, Callable[[Path], None]] = {
    "nothing": nothing,
    "import": import_,
    "pretrain": pretrain,
    "finetune": finetune,
}


def carry_out(task: str, folder: Path) -> dict[str, float]:
    """Run one step in a new process; return its seconds and its peak memory."""
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()
    return json.loads(lines[-1])


def measure(folder: Path, gigabytes: float) -> list[Row]:
    count = max(32, round(gigabytes * GIB / TRAJECTORY_BYTES))
    size = count * TRAJECTORY_BYTES
    case = f"{size / GIB:.3g} GiB"
    make_foreign(folder / "foreign", count)
    forget(folder / "foreign")
    written, read = disk_rates(folder, min(size, GIB))
    rows = [Row(case, "disk: plain writing", written, "GB/s"), Row(case, "disk: plain reading", read, "GB/s")]
    for task in TASKS:
        told = carry_out(task, folder)
        forget(folder / "store")
        rows.append(Row(case, f"{task}: peak memory", told["peak_bytes"] / GIB, "GiB"))
        if task == "import":
            rows.append(Row(case, "import: rate", size / told["seconds"] / 1e9, "GB/s"))
        elif task != "nothing":
            rows.append(Row(case, f"{task}: {STEPS} steps of {BATCH_SIZE}, whole command", told["seconds"], "s"))
    return rows


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the foreign data, GiB (default: 4)")
    parser.add_argument("--folder", type=Path, help="where to work (default: where temporary files go)")
    parser.add_argument("--task", choices=TASKS, help="used by the benchmark itself: one step in this process")
    arguments = parser.parse_args()
    if arguments.task is not None:
        start = time.perf_counter()
        TASKS[arguments.task](arguments.folder)
        print(json.dumps({"seconds": time.perf_counter() - start, "peak_bytes": peak_bytes()}))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder is removed then, too
    with tempfile.TemporaryDirectory(prefix="out-of-core-", dir=arguments.folder) as folder:
        rows = measure(Path(folder), arguments.gigabytes)
    publish("Memory that data larger than memory take", rows, arguments.json)


if __name__ == "__main__":
    main()
