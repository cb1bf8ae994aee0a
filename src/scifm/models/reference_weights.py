"""Weights in the layout of the reference transfer paper's code, into our FNO.

The layout (width C, modes m, projection F): ``fc0`` lift (C, channels); ``sp_convs.i.weights1`` and ``weights2``
(C, C, m, m, 2) for rows 0 … m−1 and −m … −1 of the first axis; ``ws.i`` skip (C, C, 1); ``fc1`` and ``fc2`` projection.
Keys may carry a ``module.`` prefix from data-parallel training. Channels: forcing first, then one a coefficient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.batch import Signature
from scifm.fields.normalization import Normalization
from scifm.models.fno import FNO, FNOConfig
from scifm.wording import plural

__all__ = ["import_reference_weights"]

_LAYER = (("sp_convs", "weights1"), ("sp_convs", "weights2"), ("ws", "weight"), ("ws", "bias"))


def import_reference_weights(
    model_state: Mapping[str, Tensor], signature: Signature, *, normalization: Normalization | None = None
) -> FNO:
    """Build our FNO with the given weights, in their precision; it answers as the reference does, to round-off.

    Args:
        model_state: the ``model_state`` entry of a reference checkpoint; `read_state_dict` reads it from the file.
        signature: names of the channels, in the order they had: the inputs, then the coefficients.
        normalization: the training set's; the reference uses ``fit_normalization(kind="joint")``.

    Raises:
        SignatureError: if a tensor is missing, unknown, or its shape does not fit the signature.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in model_state.items()}
    try:
        width, channels = state["fc0.weight"].shape
        modes = state["sp_convs.0.weights1"].shape[2]
        num_layers = sum(name.endswith("weights1") for name in state)
        expected = len(signature.inputs) + len(signature.coefficients)
        if channels != expected:
            raise SignatureError(f"The weights take {plural(channels, 'channel')}; the signature names {expected}.")
        config = FNOConfig.reference(width=width, modes=modes).model_copy(
            update={"num_layers": num_layers, "projection_width": state["fc1.weight"].shape[0]}
        )
        with torch.device("meta"):  # shapes are compared before memory is taken
            operator = FNO(signature, config, normalization=normalization)
        weights = _translate(state, num_layers)
        strangers = sorted(set(state) - _names(num_layers))
        if strangers:
            raise SignatureError(f"'{strangers[0]}' belongs to nothing in the reference's network.")
        operator.load_state_dict({name: tensor.detach().clone() for name, tensor in weights.items()}, assign=True)
    except KeyError as error:
        raise SignatureError(f"The reference checkpoint lacks {error}; is this its 'model_state'?") from error
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, SignatureError):
            raise
        raise SignatureError(f"The reference weights do not fit the network they describe: {error}") from error
    return operator.requires_grad_(True)


def _names(num_layers: int) -> set[str]:
    layers = {f"{name}.{i}.{part}" for i in range(num_layers) for name, part in _LAYER}
    return layers | {f"{name}.{part}" for name in ("fc0", "fc1", "fc2") for part in ("weight", "bias")}


def _translate(state: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    result = {"lift.weight": state["fc0.weight"], "lift.bias": state["fc0.bias"]}
    for index in range(num_layers):
        halves = [state[f"sp_convs.{index}.weights{half}"] for half in (1, 2)]
        stacked = torch.cat(halves, dim=2).permute(4, 2, 3, 0, 1)
        result[f"layers.{index}.spectral_weight"] = stacked.flatten(1, 2).contiguous()
        result[f"layers.{index}.skip.weight"] = state[f"ws.{index}.weight"][..., 0]
        result[f"layers.{index}.skip.bias"] = state[f"ws.{index}.bias"]
    for ours, theirs in enumerate(("fc1", "fc2")):
        result[f"projection.{ours}.weight"] = state[f"{theirs}.weight"]
        result[f"projection.{ours}.bias"] = state[f"{theirs}.bias"]
    return result
