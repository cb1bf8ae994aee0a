"""Weights of ``neuralop.models.FNO`` 2.0, into our operator of the same architecture.

What the weights tell is read off them. Settings that leave no trace in them are taken from the ``_metadata`` that
neuraloperator puts beside its weights, or have to be told; a network we do not know is refused, naming the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scifm.config import build_config
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Signature
from scifm.fields.normalization import Normalization
from scifm.models.neuralop_fno import ONLY, NeuralopFNO, NeuralopFNOConfig
from scifm.models.parts.centered_spectral import kept_slices
from scifm.wording import plural

__all__ = ["import_neuralop_weights", "neuralop_dims"]

_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")
_SPECTRAL = re.compile(r"fno_blocks\.convs\.(\d+)\.weight(\.tensor)?")
_SKIPS = {"fno_skip": "fno_skips", "channel_mlp_skip": "channel_mlp_skips"}


def import_neuralop_weights(
    state_dict: Mapping[str, Any],
    signature: Signature,
    *,
    normalization: Normalization | None = None,
    **settings: Any,
) -> NeuralopFNO:
    """Build our operator with the given weights, in their precision; it answers as neuraloperator does, to round-off.

    Args:
        state_dict: of a ``neuralop.models.FNO``, with or without its ``_metadata``; a prefix ``module.`` or
            ``_orig_mod.`` is dropped.
        signature: names of the channels, in the order they had: the inputs, then the coefficients.
        normalization: the training set's; numbers pass unchanged when left out.
        **settings: settings of the network by neuraloperator's names, where weights and ``_metadata`` do not tell:
            ``n_modes`` if fewer are used than have weights, ``fno_skip`` or ``channel_mlp_skip`` if ``identity`` or
            None, ``norm`` if ``instance_norm``.

    Raises:
        SignatureError: if a key is missing, unknown or of another shape, or the network is one we do not know.
    """
    state = {_PREFIX.sub("", name): value for name, value in state_dict.items()}
    metadata = state.pop("_metadata", None) or {}
    strangers = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise SignatureError(f"'{strangers[0]}' is no tensor; give the state_dict of a neuralop.models.FNO.")
    try:
        config = _config(state, signature, {**_recorded(metadata), **settings})
        operator = _filled(state, signature, config, normalization)
    except KeyError as error:
        raise SignatureError(f"The weights lack {error}; are they those of a neuralop.models.FNO?") from error
    except ConfigError as error:
        raise SignatureError(f"This network is not one we know: {error}") from error
    return operator


def neuralop_dims(state_dict: Mapping[str, Any]) -> int:
    """Return how many spatial dimensions the weights of a ``neuralop.models.FNO`` are for.

    Raises:
        SignatureError: if they hold no dense spectral weight.
    """
    for name, value in state_dict.items():
        if _SPECTRAL.fullmatch(_PREFIX.sub("", name)) and isinstance(value, Tensor):
            return value.dim() - 2
    raise SignatureError(
        "No key 'fno_blocks.convs.0.weight.tensor': these are not the weights of a neuralop.models.FNO with dense "
        "spectral weights (factorization=None)."
    )


def _recorded(metadata: Any) -> dict[str, Any]:
    """Return the settings of neuraloperator's own record that matter beyond what the weights show."""
    if not isinstance(metadata, Mapping):
        return {}
    for name, only in (("non_linearity", "gelu"), ("conv_module", "SpectralConv")):
        recorded = str(getattr(metadata.get(name), "__name__", only))
        if recorded.rpartition(".")[2] != only:
            raise SignatureError(f"{name} = {recorded} is not supported; only {only} is.")
    # what changes the answers and cannot be seen in the weights, or not for sure
    names = (*ONLY, "n_modes", "norm", "positional_embedding", *_SKIPS)
    return {name: metadata[name] for name in names if name in metadata}


def _config(state: Mapping[str, Tensor], signature: Signature, told: dict[str, Any]) -> NeuralopFNOConfig:
    dims = neuralop_dims(state)
    if dims != signature.num_spatial_dims:
        raise SignatureError(f"The weights are for {dims} dimensions; the signature has {signature.num_spatial_dims}.")
    spectral = state[next(name for name in state if _SPECTRAL.fullmatch(name))]
    width, kept = spectral.shape[1], list(spectral.shape[2:])
    tree: dict[str, Any] = {
        "hidden_channels": width,
        "n_layers": sum(_SPECTRAL.fullmatch(name) is not None for name in state),
        "n_modes": [*kept[:-1], 2 * (kept[-1] - 1)],
        "norm": "group_norm" if "fno_blocks.norm.0.weight" in state else None,
        "use_channel_mlp": "fno_blocks.channel_mlp.0.fcs.0.weight" in state,
        "lifting_channel_ratio": 0,
        "projection_channel_ratio": _ratio(state["projection.fcs.0.weight"].shape[0], width),
        "positional_embedding": _embedding(state["lifting.fcs.0.weight"].shape[1], signature),
    }
    if tree["n_modes"][-1] == 0:
        tree["n_modes"][-1] = 1
    if "lifting.fcs.1.weight" in state:
        tree["lifting_channel_ratio"] = _ratio(state["lifting.fcs.0.weight"].shape[0], width)
    if tree["use_channel_mlp"]:
        tree["channel_mlp_expansion"] = state["fno_blocks.channel_mlp.0.fcs.0.weight"].shape[0] / width
    tree |= {name: _seen_skip(state, part) for name, part in _SKIPS.items() if _seen_skip(state, part)}
    for name in _SKIPS:
        if name not in tree and name not in told and (name == "fno_skip" or tree["use_channel_mlp"]):
            raise SignatureError(f"The weights do not tell whether {name} was 'identity' or None: say {name}=….")
    told = {name: value for name, value in told.items() if name != "max_n_modes"}
    for name in set(told) & set(tree) - {"n_modes"}:
        if tree[name] is not None and (told[name] or "none") != tree[name]:
            raise SignatureError(f"{name} = {told[name]!r} was said; the weights show {tree[name]!r}.")
    if "n_modes" in told:
        given = list(told["n_modes"]) if isinstance(told["n_modes"], list | tuple) else [told["n_modes"]]
        told["n_modes"] = [int(n) for n in given]
    return build_config(NeuralopFNOConfig, {**tree, **told}, source="its settings")


def _ratio(channels: int, width: int) -> float:
    ratio = channels / width
    return ratio if int(ratio * width) == channels else (channels + 0.5) / width


def _embedding(channels: int, signature: Signature) -> str:
    named = len(signature.inputs) + len(signature.coefficients)
    if channels not in (named, named + signature.num_spatial_dims):
        raise SignatureError(
            f"'lifting.fcs.0.weight' takes {plural(channels, 'channel')}; the signature names {named}, and "
            f"coordinates would be {signature.num_spatial_dims} more. Name the inputs and coefficients "
            "the network was trained with."
        )
    return "none" if channels == named else "grid"


def _seen_skip(state: Mapping[str, Tensor], part: str) -> str | None:
    if f"fno_blocks.{part}.0.conv.weight" in state:
        return "linear"
    return "soft-gating" if f"fno_blocks.{part}.0.weight" in state else None


def _filled(
    state: Mapping[str, Tensor], signature: Signature, config: NeuralopFNOConfig, normalization: Normalization | None
) -> NeuralopFNO:
    with torch.device("meta"):  # shapes are compared before memory is taken
        operator = NeuralopFNO(signature, config, normalization=normalization)
    found, expected = {}, operator.state_dict()
    for name, tensor in state.items():
        ours, value = _translated(name, tensor, config)
        if ours not in expected:
            raise SignatureError(f"'{name}' belongs to nothing in the network that the other weights describe.")
        if value.shape != expected[ours].shape:
            raise SignatureError(
                f"'{name}' has shape {tuple(tensor.shape)}, which does not fit the network that the other weights and "
                "the signature describe."
            )
        found[ours] = value.detach().clone(memory_format=torch.contiguous_format)
    missing = sorted(set(expected) - set(found))
    if missing:
        raise SignatureError(f"The weights lack what we call '{missing[0]}'.")
    operator.load_state_dict(found, assign=True)
    return operator.requires_grad_(True)


def _translated(name: str, tensor: Tensor, config: NeuralopFNOConfig) -> tuple[str, Tensor]:
    """Return our name and form of one of neuraloperator's weights."""
    if _SPECTRAL.fullmatch(name):
        index = name.split(".")[2]
        cut = _middle(tuple(tensor.shape[2:]), config.weight_modes)
        tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        tensor = tensor[(slice(None), slice(None), *cut)]
        return f"blocks.{index}.conv.spectral_weight", tensor.movedim(-1, 0).movedim((1, 2), (-2, -1))
    ours = re.sub(r"^(lifting|projection)\.fcs\.1\.", r"\1.2.", name)
    ours = re.sub(r"^(lifting|projection)\.fcs\.0\.", r"\1.0.", ours)
    if not config.lifting_channel_ratio:
        ours = ours.replace("lifting.0.", "lifting.")
    ours = re.sub(r"^fno_blocks\.convs\.(\d+)\.bias$", r"blocks.\1.conv.bias", ours)
    ours = re.sub(r"^fno_blocks\.fno_skips\.(\d+)\.(conv\.)?weight$", r"blocks.\1.skip.weight", ours)
    ours = re.sub(r"^fno_blocks\.channel_mlp_skips\.(\d+)\.(conv\.)?weight$", r"blocks.\1.mlp_skip.weight", ours)
    ours = re.sub(r"^fno_blocks\.channel_mlp\.(\d+)\.fcs\.([01])\.",
                  lambda m: f"blocks.{m[1]}.mlp.{2 * int(m[2])}.", ours)  # fmt: skip
    ours = re.sub(r"^fno_blocks\.norm\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 2}.norms.{int(m[1]) % 2}.", ours)
    if (tensor.dim() == 3 and tensor.shape[-1] == 1 and ".fcs." in name) or ".conv.weight" in name:
        tensor = tensor[..., 0]  # pointwise maps are convolutions of length one there
    elif re.search(r"\.(convs\.\d+\.bias|\w+_skips\.\d+\.weight)$", name):
        tensor = tensor.flatten()
    return ours, tensor


def _middle(stored: tuple[int, ...], used: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the weights in use where more modes have weights (``max_n_modes``) than are used (``n_modes``)."""
    if any(u > s for s, u in zip(stored, used, strict=True)):
        raise SignatureError(f"n_modes asks for weights of {used} modes; the file holds {stored}.")
    *others, _ = kept_slices(used, stored)
    return (*others, slice(0, used[-1]))
