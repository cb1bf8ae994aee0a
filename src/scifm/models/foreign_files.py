"""Other people's weights as operators of ours: read without running anything that lies in their files.

Pickles are read with ``weights_only=True``: tensors and plain containers come in, everything else is refused before it
is called. Two layouts are known:

* The reference transfer paper's (width C, modes m, projection F): ``fc0`` lift (C, channels); ``sp_convs.i.weights1``
  and ``weights2`` (C, C, m, m, 2) for rows 0 … m−1 and −m … −1 of the first axis; ``ws.i`` skip (C, C, 1); ``fc1`` and
  ``fc2`` projection. Keys may carry a ``module.`` prefix from data-parallel training.
* That of ``neuralop.models.FNO`` 2.0. What the weights tell is read off them. Settings that leave no trace in them are
  taken from the ``_metadata`` that neuraloperator puts beside its weights, or have to be said; a network we do not know
  is refused, naming the key.

Channels: the inputs first, then one a coefficient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scifm.config import build_config
from scifm.errors import ConfigError, RunError, SignatureError
from scifm.fields.batch import Signature
from scifm.fields.normalization import Normalization
from scifm.models.fno import FNO, FNOConfig
from scifm.models.neuralop_fno import ONLY, NeuralopFNO, NeuralopFNOConfig
from scifm.models.operator import Operator
from scifm.models.parts.centered_spectral import kept_slices
from scifm.wording import plural

__all__ = ["import_neuralop_weights", "import_reference_weights", "neuralop_dims", "read_state_dict"]

_INSIDE = ("model_state", "model_state_dict", "state_dict")
_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")
_SPECTRAL = re.compile(r"fno_blocks\.convs\.(\d+)\.weight(\.tensor)?")
_SKIPS = {"fno_skip": "fno_skips", "channel_mlp_skip": "channel_mlp_skips"}
_NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (  # neuraloperator's, and what they are here
    (r"^(lifting|projection)\.fcs\.([01])\.", lambda m: f"{m[1]}.{2 * int(m[2])}."),
    (r"^fno_blocks\.convs\.(\d+)\.bias$", r"blocks.\1.conv.bias"),
    (r"^fno_blocks\.fno_skips\.(\d+)\.(conv\.)?weight$", r"blocks.\1.skip.weight"),
    (r"^fno_blocks\.channel_mlp_skips\.(\d+)\.(conv\.)?weight$", r"blocks.\1.mlp_skip.weight"),
    (r"^fno_blocks\.channel_mlp\.(\d+)\.fcs\.([01])\.", lambda m: f"blocks.{m[1]}.mlp.{2 * int(m[2])}."),
    (r"^fno_blocks\.norm\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 2}.norms.{int(m[1]) % 2}."),
)

OperatorT = TypeVar("OperatorT", bound=Operator)


class _Stranger:
    """Stands for a class or function named in a file, so that what lies beside it can be read; does nothing."""

    def __init__(self, *_arguments: Any, **_settings: Any) -> None:
        raise RunError("The file asks to call what it names; nothing was run.")


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """Return the weights in a file: ``.safetensors``, or what ``torch.save`` wrote.

    Of a training checkpoint, such as the reference paper's ``.tar`` with iters, epoch, model_state, optimizer and
    scheduler, its ``model_state`` (or ``model_state_dict``, ``state_dict``) is returned.

    Args:
        path: the file.

    Raises:
        RunError: if it is missing, damaged, holds no weights, or asks to run something.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"There is no file '{path}'. Give a .safetensors file, or what torch.save wrote (.pt, .tar).")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if isinstance(content, Mapping):
        content = next((content[name] for name in _INSIDE if isinstance(content.get(name), Mapping)), content)
    if not isinstance(content, Mapping) or not any(isinstance(value, torch.Tensor) for value in content.values()):
        raise RunError(f"'{path}' holds no weights: it must be a state_dict, or a checkpoint with a model_state.")
    return {str(name): value for name, value in content.items()}


def _safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"'{path}' cannot be read as safetensors ({error}).") from error


def _pickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_named_by_neuraloperator(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line), "")
        reason = " ".join((reason or str(error)).split())[:200]
        raise RunError(
            f"'{path}' cannot be read as weights ({type(error).__name__}: {reason}). Nothing in it was run. If you "
            "trust it, load it where it was made and save its state_dict alone, best with safetensors."
        ) from error


def _named_by_neuraloperator(path: Path) -> list[Any]:
    """Return stand-ins for what neuraloperator names in the record of settings it saves among its weights."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (AttributeError, ValueError, RuntimeError):  # an older torch; no archive of torch's: read without
        return []
    harmless = [name for name in named if name.startswith("neuralop.layers.") or name == "torch._C._nn.gelu"]
    return [(type(name, (_Stranger,), {}), name) for name in harmless]


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
        names = {"lift": "fc0", "projection.0": "fc1", "projection.1": "fc2"}
        names |= {f"layers.{i}.skip": f"ws.{i}" for i in range(num_layers)}
        theirs = {f"{our}.{part}": f"{name}.{part}" for our, name in names.items() for part in ("weight", "bias")}
        weights = {our: state.pop(name) for our, name in theirs.items()}
        for i in range(num_layers):
            weights[f"layers.{i}.skip.weight"] = weights[f"layers.{i}.skip.weight"][..., 0]
            halves = [state.pop(f"sp_convs.{i}.weights{half}") for half in (1, 2)]
            theirs[name := f"layers.{i}.spectral_weight"] = f"sp_convs.{i}.weights1"
            weights[name] = torch.cat(halves, dim=2).permute(4, 2, 3, 0, 1).flatten(1, 2)
        for stranger in sorted(state):
            raise SignatureError(f"'{stranger}' belongs to nothing in the reference's network.")
        with torch.device("meta"):  # shapes are compared before memory is taken
            operator = FNO(signature, config, normalization=normalization)
        return _filled(operator, weights, theirs)
    except SignatureError:
        raise
    except KeyError as error:
        raise SignatureError(f"The reference checkpoint lacks {error}; is this its 'model_state'?") from error
    except (RuntimeError, IndexError, ValueError) as error:
        raise SignatureError(f"The reference weights do not fit the network they describe: {error}") from error


def _filled(operator: OperatorT, weights: Mapping[str, Tensor], theirs: Mapping[str, str]) -> OperatorT:
    """Fill an operator that has no memory yet with copies of weights, which `theirs` names as their file does."""
    expected = operator.state_dict()
    for name, tensor in weights.items():
        if name not in expected:
            raise SignatureError(f"'{theirs[name]}' belongs to nothing in the network that the other weights describe.")
        if tensor.shape != expected[name].shape:
            raise SignatureError(
                f"'{theirs[name]}' has shape {tuple(tensor.shape)} and {tuple(expected[name].shape)} is needed: it "
                "does not fit the network that the other weights and the signature describe."
            )
    missing = sorted(expected.keys() - weights.keys())
    if missing:
        raise SignatureError(f"The weights lack what we call '{missing[0]}'.")
    copies = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    operator.load_state_dict(copies, assign=True)
    return operator.requires_grad_(True)


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
        with torch.device("meta"):  # shapes are compared before memory is taken
            operator = NeuralopFNO(signature, config, normalization=normalization)
        named = {name: _translated(name, tensor, config) for name, tensor in state.items()}
        return _filled(operator, dict(named.values()), {ours: name for name, (ours, _) in named.items()})
    except KeyError as error:
        raise SignatureError(f"The weights lack {error}; are they those of a neuralop.models.FNO?") from error
    except ConfigError as error:
        raise SignatureError(f"This network is not one we know: {error}") from error


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


def _config(state: Mapping[str, Tensor], signature: Signature, settings: dict[str, Any]) -> NeuralopFNOConfig:
    dims = neuralop_dims(state)
    if dims != signature.num_spatial_dims:
        raise SignatureError(f"The weights are for {dims} dimensions; the signature has {signature.num_spatial_dims}.")
    spectral = state[next(name for name in state if _SPECTRAL.fullmatch(name))]
    width, stored = spectral.shape[1], list(spectral.shape[2:])
    seen: dict[str, Any] = {
        "hidden_channels": width,
        "n_layers": sum(_SPECTRAL.fullmatch(name) is not None for name in state),
        "n_modes": [*stored[:-1], max(1, 2 * (stored[-1] - 1))],
        "norm": "group_norm" if "fno_blocks.norm.0.weight" in state else None,
        "use_channel_mlp": "fno_blocks.channel_mlp.0.fcs.0.weight" in state,
        "lifting_channel_ratio": 0,
        "projection_channel_ratio": _ratio(state["projection.fcs.0.weight"].shape[0], width),
        "positional_embedding": _embedding(state["lifting.fcs.0.weight"].shape[1], signature),
    }
    if "lifting.fcs.1.weight" in state:
        seen["lifting_channel_ratio"] = _ratio(state["lifting.fcs.0.weight"].shape[0], width)
    if seen["use_channel_mlp"]:
        seen["channel_mlp_expansion"] = state["fno_blocks.channel_mlp.0.fcs.0.weight"].shape[0] / width
    for name, part in _SKIPS.items():
        if f"fno_blocks.{part}.0.conv.weight" in state:
            seen[name] = "linear"
        elif f"fno_blocks.{part}.0.weight" in state:
            seen[name] = "soft-gating"
        elif name not in settings and (name == "fno_skip" or seen["use_channel_mlp"]):
            raise SignatureError(f"The weights do not tell whether {name} was 'identity' or None: say {name}=….")
    settings = {name: value for name, value in settings.items() if name != "max_n_modes"}
    for name in set(settings) & set(seen) - {"n_modes"}:
        if seen[name] is not None and (settings[name] or "none") != seen[name]:
            raise SignatureError(f"{name} = {settings[name]!r} was said; the weights show {seen[name]!r}.")
    if "n_modes" in settings:
        modes = settings["n_modes"]
        settings["n_modes"] = [int(n) for n in (modes if isinstance(modes, list | tuple) else [modes])]
    return build_config(NeuralopFNOConfig, {**seen, **settings}, source="its settings")


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


def _translated(name: str, tensor: Tensor, config: NeuralopFNOConfig) -> tuple[str, Tensor]:
    """Return our name and form of one of neuraloperator's weights."""
    if _SPECTRAL.fullmatch(name):
        index = name.split(".")[2]
        cut = _middle(tuple(tensor.shape[2:]), config.weight_modes)
        tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        tensor = tensor[(slice(None), slice(None), *cut)]
        return f"blocks.{index}.conv.spectral_weight", tensor.movedim(-1, 0).movedim((1, 2), (-2, -1))
    ours = name
    for pattern, replacement in _NAMES:
        ours = re.sub(pattern, replacement, ours)
    if not config.lifting_channel_ratio:
        ours = ours.replace("lifting.0.", "lifting.")
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
