"""The networks of The Well's package, made ready to be trained, marched and timed beside ours.

``the_well.benchmark.models`` wraps neuraloperator 0.3.0 and takes three names of timm and an optional logger that are
not used here: where these two are not installed, stand-ins take their places, which end the program if they are called
upon after all. neuraloperator of that release is needed by the FNO alone, beside whatever release is installed:

    pip install --target PEERS --no-deps neuraloperator==0.3.0
    pip install the_well einops tensorly tensorly-torch
    python benchmarks/forecast.py --packages PEERS …

What a network is given: the last frame, each field in its own zero mean and unit size over the training set, as that
package's z-score does; the coefficients likewise, as channels that are constant in space, for its networks have no
other door for them. What it answers: the change to the next frame, in the change's own mean and size (that package's
"delta" data sets), or the next frame itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from scifm.fields.batch import Batch, Signature
from scifm.fields.normalization import Encoded
from scifm.models.operator import Operator, OperatorConfig

__all__ = ["WELL_SIZES", "Peer", "PeerConfig", "Scales", "alive", "make_network", "make_ready"]

WELL_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "class": {  # what each class has when nothing is said; the spectral one has no default number of modes
        "fno": {"modes1": 16, "modes2": 16, "hidden_channels": 64},
        "unet_convnext": {"init_features": 32, "blocks_per_stage": 1},
        "avit": {"hidden_dim": 768, "num_heads": 12},
    },
    "benchmark": {  # the configurations behind the table of that package's paper, for a GPU
        "fno": {"modes1": 16, "modes2": 16, "hidden_channels": 128},
        "unet_convnext": {"init_features": 42, "blocks_per_stage": 2},
        "avit": {"hidden_dim": 384, "num_heads": 6},
    },
}
_CLASSES = {"fno": "FNO", "unet_convnext": "UNetConvNext", "avit": "AViT"}
_LEAST_REACH = 1e-3


class PeerConfig(OperatorConfig):
    """What a peer is, for the record."""

    name: str = ""
    answers_change: bool = True


def make_ready(packages: Path | None, *, needs_fno: bool) -> None:
    """Let the package's models be imported; end with what is missing and how to get it.

    Args:
        packages: folder to look for packages in first, as ``pip install --target`` fills it; None: nowhere else.
        needs_fno: whether the FNO is asked for, which fits one release of neuraloperator alone.
    """
    if packages is not None:
        if not packages.is_dir():
            _end(f"There is no folder {packages}")
        sys.path.insert(0, str(packages))
    for name in ("the_well", "einops", "neuralop", "tltorch"):
        if importlib.util.find_spec(name) is None:
            _end(f"The package {name} is missing")
    if importlib.util.find_spec("timm") is None:
        _stand_in("timm", "layers", "models.layers", names=("DropPath", "trunc_normal_"))
    if importlib.util.find_spec("wandb") is None:
        _stand_in("wandb", names=())
    try:
        importlib.import_module("the_well.benchmark.models")
        if needs_fno:
            make_network("fno", 1, 1, (16, 16), {"modes1": 4, "modes2": 4, "hidden_channels": 4})
    except (ImportError, TypeError) as error:
        _end(f"The wrappers do not fit the packages that are there ({error})")


def make_network(kind: str, num_in: int, num_out: int, space: tuple[int, ...], settings: dict[str, Any]) -> nn.Module:
    """Return one of the package's networks, channels first."""
    models = importlib.import_module("the_well.benchmark.models")
    network: nn.Module = getattr(models, _CLASSES[kind])(num_in, num_out, len(space), space, **settings)
    return _ChannelsLast(network) if kind == "avit" else network


@dataclass(frozen=True)
class Scales:
    """Mean and size over a training set, ``(channel,)`` each, of what goes in and what comes out.

    Args:
        inputs, coefficients, changes: mean, then standard deviation.
    """

    inputs: tuple[Tensor, Tensor]
    coefficients: tuple[Tensor, Tensor]
    changes: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, batch: Batch) -> Scales:
        """Fit them."""
        state = [batch.signature.inputs.index(name) for name in batch.signature.outputs]
        fields = batch.inputs.transpose(1, 2)
        change = (batch.require_targets() - batch.inputs[:, -1:, state]).transpose(1, 2)
        return cls(_moments(fields), _moments(batch.coefficients[:, :, None]), _moments(change))


class Peer(Operator):
    """A network of the package as one of our operators: the same march and the same judge.

    Args:
        signature: names of the data.
        network: channels first; fields and coefficients to the change or the next frame.
        scales: of the training set.
        name: what it is called.
        answers_change: whether it answers the change.
    """

    needs_periodic = False

    def __init__(
        self, signature: Signature, network: nn.Module, scales: Scales, *, name: str, answers_change: bool
    ) -> None:
        super().__init__(signature, PeerConfig(name=name, answers_change=answers_change))
        self.inner, self.answers_change = network, answers_change
        self.state = [signature.inputs.index(field) for field in signature.outputs]
        for part in ("inputs", "coefficients", "changes"):
            mean, size = getattr(scales, part)
            self.register_buffer(f"{part}_mean", mean)
            self.register_buffer(f"{part}_size", size)

    def answer(self, fields: Tensor, coefficients: Tensor) -> Tensor:
        """Return what the network says of ``(batch, channel, *space)``, in the units it is trained in."""
        x = (fields - _along(self.inputs_mean, fields)) / _along(self.inputs_size, fields)
        numbers = ((coefficients - self.coefficients_mean) / self.coefficients_size)[:, :, None, None]
        answer: Tensor = self.inner(torch.cat([x, numbers.expand(-1, -1, *fields.shape[2:])], dim=1))
        return answer

    def wanted(self, fields: Tensor, following: Tensor) -> Tensor:
        """Return what the network should have said, ``(batch, channel, *space)``."""
        if self.answers_change:
            change = following - fields[:, self.state]
            return (change - _along(self.changes_mean, change)) / _along(self.changes_size, change)
        return (following - _along(self._means(), following)) / _along(self._sizes(), following)

    def network(self, encoded: Encoded) -> Tensor:
        """Return the change in the fields' units: the base class adds the last frame."""
        fields = encoded.inputs[:, 0]
        said = self.answer(fields, encoded.coefficients)
        if self.answers_change:
            change = said * _along(self.changes_size, said) + _along(self.changes_mean, said)
        else:
            change = said * _along(self._sizes(), said) + _along(self._means(), said) - fields[:, self.state]
        return change.unsqueeze(1)

    def _means(self) -> Tensor:
        return self.inputs_mean[self.state]

    def _sizes(self) -> Tensor:
        return self.inputs_size[self.state]


def alive(network: nn.Module, num_in: int, space: tuple[int, ...]) -> float:
    """Return how much of what one answer hangs on lies outside its own pixel; end where it is next to nothing.

    An FNO whose spectral blocks do nothing is a map of each pixel by itself. In old releases the wrapped one was.
    """
    x = torch.randn(1, num_in, *space, generator=torch.Generator().manual_seed(0)).requires_grad_()
    middle = tuple(n // 2 for n in space)
    network(x)[(0, 0, *middle)].backward()
    assert x.grad is not None
    reach = x.grad[0].abs().sum(0)
    share = float(1 - reach[middle] / reach.sum())
    if not share > _LEAST_REACH:
        raise SystemExit(f"An answer hangs on its own pixel alone (others: {share:.1g}): part of this network is dead.")
    network.zero_grad()
    return share


class _ChannelsLast(nn.Module):
    """A network that has channels last, asked with channels first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x.movedim(1, -1)).movedim(-1, 1)
        return answer


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over all but axis 1; 1 where nothing varies."""
    flat = values.transpose(0, 1).flatten(1).double()
    size = flat.std(dim=1)
    return flat.mean(dim=1).float(), torch.where(size > 0, size, 1.0).float()


def _along(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.dim() - 2))


def _stand_in(package: str, *places: str, names: tuple[str, ...]) -> None:
    """Put modules where the wrappers look for names they do not use here."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise SystemExit(f"The real {package} is needed after all: pip install {package}.")

    dotted = {".".join([package, *place.split(".")[:depth]]) for place in places for depth in (1, 2)}
    for name in sorted({package} | dotted):
        module = types.ModuleType(name)
        module.__dict__.update(dict.fromkeys(names, refuse))
        sys.modules[name] = module


def _end(what: str) -> NoReturn:
    raise SystemExit(
        f"{what}. The networks of The Well's package need the_well, einops, tensorly, tensorly-torch and "
        "neuraloperator 0.3.0, which may lie in a folder of its own: pip install --target PEERS --no-deps "
        "neuraloperator==0.3.0, then give --packages PEERS."
    )


warnings.filterwarnings("ignore", message="Using a non-tuple sequence for multidimensional indexing")
