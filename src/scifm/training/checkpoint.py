"""The state of a training run on disk: enough that a resumed run equals one never stopped, bit for bit.

One safetensors file holds weights, optimizer moments and the generator's state; step, best score and seconds ride in
its header. It is replaced atomically, so a crash while saving leaves the previous one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from scifm.errors import RunError
from scifm.runs import write_atomically

__all__ = ["Checkpoint", "Position"]


@dataclass
class Position:
    """Where a training run stands.

    Args:
        step: optimizer steps taken.
        best_score: lowest validation score so far.
        best_step: when it was reached.
        seconds: time spent training, over all sittings.
        loss_sum: losses summed since the last log line.
        optimizer_bytes: memory of the optimizer's state; None before the first step.
        gradient_bytes: memory of the gradients; None before the first step.
    """

    step: int = 0
    best_score: float = float("inf")
    best_step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    optimizer_bytes: int | None = None
    gradient_bytes: int | None = None


class Checkpoint:
    """Saves and loads training state in a folder.

    Args:
        folder: the ``state`` folder of a run.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "latest.safetensors"

    def save(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, position: Position, best: dict[str, Tensor]
    ) -> None:
        """Write everything; `best` holds the best weights so far, or nothing when they are not asked for.

        Raises:
            RunError: if it cannot be written; the previous state stays.
        """
        tensors = {f"weights/{name}": tensor for name, tensor in module.state_dict().items()}
        for name, parameter in module.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = value
        tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
        tensors["generator"] = torch.get_rng_state()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(self.file, save(tensors, metadata={"position": json.dumps(asdict(position))}))

    def load(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Position, dict[str, Tensor]]:
        """Restore everything in place; return the position and the best weights, fresh ones when nothing was saved yet.

        Raises:
            RunError: if the state is damaged or belongs to another network.
        """
        if not self.file.is_file():
            return Position(), {}
        try:
            with safe_open(self.file, framework="pt") as handle:
                position = Position(**json.loads(handle.metadata()["position"]))
                tensors: dict[str, Tensor] = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
            self._restore(module, optimizer, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"The training state '{self.file}' cannot be read ({error}). Delete the folder '{self.file.parent}' to "
                "train from the beginning; the log and any finished model stay."
            ) from error
        best = {n.removeprefix("best/"): t for n, t in tensors.items() if n.startswith("best/")}
        return position, best

    @staticmethod
    def _restore(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
        torch.set_rng_state(tensors.pop("generator"))
        weights = {n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")}
        module.load_state_dict(weights)
        parameters = dict(module.named_parameters())
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, key, parameter_name = name.split("/", 2)
                parameter = parameters[parameter_name]
                # counters stay where the optimizer made them; moments go beside their parameter
                moved = tensor if tensor.dim() == 0 else tensor.to(parameter.device)
                optimizer.state[parameter][key] = moved
