"""Any ``(batch, channel, *space) → (batch, channel, *space)`` network of PyTorch as an operator.

Input fields come first among the channels, then one constant channel a coefficient. The network is given as an object,
`ModuleOperator.wrap`, or by the name of its class and its arguments, as in a recipe::

    [model]
    kind = "module"

    [model.network]
    target = "package.module:ClassName"
    file = "networks/own.py"  # where it lies, if in no package; it has to be given to --import
    arguments = { in_channels = "{in_channels}", out_channels = "{out_channels}", hidden_channels = 32 }

Four words in braces stand for what a recipe cannot know or say: ``{in_channels}``, ``{out_channels}``,
``{num_spatial_dims}`` and ``{none}``, Python's None.

A file from elsewhere can name a class; it cannot say where code lies that is then run. The user does, with ``--import``
on the command line, which ends in `import_own`, or by importing the module in a program.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from pydantic import Field, JsonValue, field_validator
from torch import Tensor, nn

from scifm.config import build_config
from scifm.errors import ConfigError, RunError, SignatureError
from scifm.fields.batch import Signature
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.seeds import lent_to_torch
from scifm.models.architecture import Hidden
from scifm.models.folder import ModelContent
from scifm.models.operator import Operator, OperatorConfig

__all__ = ["VARIABLE", "ModuleConfig", "ModuleOperator", "import_own", "module_class", "require_importable"]

VARIABLE = "SCIFM_IMPORT"
"""Environment variable that holds what `import_own` was given, for processes that are started to share the work."""

_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")
_TARGET = re.compile(rf"{_NAME.pattern}:[A-Za-z]\w*")


class ModuleConfig(OperatorConfig):
    """Which network, by the name of its class.

    Args:
        target: ``package.module:ClassName`` of a subclass of ``torch.nn.Module``; absent where an object was wrapped.
        arguments: of its constructor, by name; the words in braces (see the head of this file) are replaced.
        file: the Python file that its module is, where that is of no installed package. Nothing is run for this: it
            says what has to be given to ``--import``.
    """

    kind: ClassVar[str] = "module"
    sized_by: ClassVar[tuple[str, ...] | None] = ("file", "arguments")

    target: str | None = None
    file: str | None = None
    arguments: dict[str, JsonValue] = Field(default_factory=dict)

    def require_known(self) -> None:
        if self.target is not None:
            module_class(self.target, file=self.file)

    @field_validator("target")
    @classmethod
    def _names_a_class(cls, value: str | None) -> str | None:
        if value is not None and not _TARGET.fullmatch(value):
            raise ValueError("write package.module:ClassName, without leading underscores")
        return value

    @field_validator("arguments")
    @classmethod
    def _can_be_written(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if _holds_none(value):
            raise ValueError('None cannot be written into a recipe; write "{none}"')
        return value


def _holds_none(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_holds_none, value.values() if isinstance(value, dict) else value))
    return value is None


def module_class(target: str, *, file: str | None = None) -> type[nn.Module]:
    """Return the class that ``package.module:ClassName`` names; nothing but the import is done.

    Raises:
        ConfigError: if it must not be imported (`require_importable`), cannot be, or is no subclass of
            ``torch.nn.Module``.
    """
    place, _, name = target.partition(":")
    if not _TARGET.fullmatch(target):
        raise ConfigError(f"target '{target}' does not name a class as package.module:ClassName.")
    require_importable(place, file=file)
    try:
        named = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"target '{target}' cannot be imported ({error}). Install the package it comes from, or correct the name."
        ) from error
    if not (isinstance(named, type) and issubclass(named, nn.Module)):
        raise ConfigError(f"target '{target}' is no class of networks: it must be a subclass of torch.nn.Module.")
    return named


def import_own(places: Iterable[str]) -> None:
    """Import modules, so that models may name classes of them; here and in every process started from here.

    Args:
        places: names of modules that Python finds, or paths of Python files.

    Raises:
        ConfigError: if one is missing or fails; it is code that you chose to run.
    """
    settled = [_import(place) for place in places]
    before = os.environ.get(VARIABLE, "").split(os.pathsep)
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(filter(None, [*before, *settled])))


def _import(place: str) -> str:
    """Import a module; return its name, or the whole path of its file."""
    path = Path(place).expanduser().resolve() if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise ConfigError(f"There is no file '{place}' to import.")
    name = path.stem if path is not None else place
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{place}' is neither the name of a module nor the path of a file NAME.py.")
    if path is not None and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that no file beside it comes before an installed package
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ConfigError(f"'{place}' cannot be imported: {type(error).__name__}: {error}") from error
    if path is None:
        return name
    if Path(str(module.__file__)).resolve() != path:
        raise ConfigError(
            f"'{place}' cannot be imported: Python already knows a '{name}', {module.__file__}. Rename it."
        )
    return str(path)


def require_importable(place: str, *, file: str | None = None) -> None:
    """Refuse to import what a recipe or a model names, unless it is known here; nothing is imported to find out.

    Known are modules of installed packages, what this program has imported itself, and what `import_own` was given.

    Raises:
        ConfigError: if it belongs to Python itself, or is not known.
    """
    package = place.partition(".")[0]
    if package in {*sys.stdlib_module_names, "__main__"}:
        raise ConfigError(f"'{place}' is refused: '{package}' belongs to Python itself and holds no network.")
    if place in sys.modules or package in metadata.packages_distributions():
        return
    import_own(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))
    if place not in sys.modules:
        own = file or f"{place.replace('.', '/')}.py"
        raise ConfigError(
            f"'{place}' is no module of an installed package. Install its package; or, if it is code of your own that "
            f"you trust, give --import {own}, or import it before in a program."
        )


class ModuleOperator(Operator):
    """A network of anyone's with names and units around it.

    Args:
        config: which network; it must have a target unless `module` is given.
        module: the network itself, instead of a new one.

    Raises:
        ConfigError: if there is no such class, its constructor refuses the arguments, or the network cannot train.
    """

    config: ModuleConfig
    config_class = ModuleConfig
    needs_periodic = False

    def __init__(
        self,
        signature: Signature,
        config: ModuleConfig,
        *,
        normalization: Normalization | None = None,
        module: nn.Module | None = None,
    ) -> None:
        super().__init__(signature, config, normalization=normalization)
        self.module = module if module is not None else _construct(signature, config)
        if not any(parameter.is_floating_point() for parameter in self.module.parameters()):
            raise ConfigError(f"A {type(self.module).__name__} has no weights: there is nothing to train.")
        odd = [name for name, value in self.state_dict().items() if not isinstance(value, Tensor)]
        if odd:
            raise ConfigError(
                f"A {type(self.module).__name__} keeps state that is no tensor ('{odd[0]}') and cannot be saved."
            )

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        signature: Signature,
        normalization: Normalization | None = None,
        *,
        target: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> ModuleOperator:
        """Return an operator around a network, which it shares.

        Args:
            module: maps ``(batch, channel, *space)`` to ``(batch, channel, *space)``.
            signature: names of its channels: the inputs, then the coefficients; the outputs.
            target: name of its class, so that it can be loaded without being given again.
            arguments: what its constructor was given.

        Raises:
            ConfigError: if the network has no weights, or an argument cannot be written.
        """
        tree = {"target": target, "arguments": dict(arguments or {})}
        config = build_config(ModuleConfig, tree, source=f"the {type(module).__name__}")
        return cls(signature, config, normalization=normalization, module=module)

    @property
    def needs_module(self) -> bool:  # type: ignore[override]
        """Whether loading it again needs the network as an object: its settings do not say how to make one."""
        return self.config.target is None

    def hidden(self) -> Hidden:
        """Return the parts of the network, channels being its second axis as everywhere in PyTorch.

        Of a stranger's network nobody knows which part is the way out; it is taken for the last one, and features for
        what goes into it.
        """
        parts = _parts(self.module)
        while len(parts) == 1 and _parts(parts[0]):
            parts = _parts(parts[0])
        return Hidden(tuple(parts), ("batch", "channel", "space"), before=True)

    def network(self, encoded: Encoded) -> Tensor:
        """Map encoded inputs to encoded answers; shapes as in `Operator.network`.

        Raises:
            SignatureError: if the network answers in another shape than its input's with the outputs as channels.
        """
        inputs, coefficients = encoded.inputs, encoded.coefficients
        space = inputs.shape[3:]
        constants = coefficients.view(*coefficients.shape, *(1,) * len(space)).expand(*coefficients.shape, *space)
        channels = torch.cat([inputs[:, 0], constants], dim=1)
        answer = self.module(channels)
        expected = (inputs.shape[0], len(self.signature.outputs), *space)
        if not isinstance(answer, Tensor) or tuple(answer.shape) != expected:
            got = tuple(answer.shape) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise SignatureError(
                f"The {type(self.module).__name__} was given {tuple(channels.shape)} and must answer {expected}, "
                f"(batch, {len(self.signature.outputs)} outputs, *space); it answered {got}."
            )
        return answer.unsqueeze(1)

    def with_config(self, config: OperatorConfig) -> Self:
        """Return an operator around the same network, which both share."""
        assert isinstance(config, ModuleConfig)
        twin = type(self)(self.signature, config, normalization=self.normalization, module=self.module)
        twin.domain, twin.provenance, twin.recompute = self.domain, self.provenance, self.recompute
        twin.training = self.training
        return twin

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the weights as they are saved: complex ones as real pairs, a tensor shared by two names copied."""
        state, seen = super().state_dict(*args, **kwargs), set()
        state.pop("_metadata", None)  # neuraloperator puts its settings among its weights
        for name, value in state.items():
            if isinstance(value, Tensor):
                value = torch.view_as_real(value) if value.is_complex() else value
                place = (value.device, value.data_ptr(), value.numel())
                state[name] = value.clone() if place in seen else value
                seen.add(place)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take weights as `state_dict` gives them."""
        complex_names = {name for name, value in self._own_tensors() if value.is_complex()}
        given = {
            name: torch.view_as_complex(value.contiguous()) if name in complex_names else value
            for name, value in state_dict.items()
        }
        return super().load_state_dict(given, strict=strict, assign=assign)

    @classmethod
    def _with_weights(cls, config: OperatorConfig, content: ModelContent, module: nn.Module | None) -> Self:
        """Construct the network: for comparison without memory first, then with what it keeps beside weights."""
        assert isinstance(config, ModuleConfig)

        def make() -> ModuleOperator:
            with lent_to_torch([torch.Generator()]):  # for first weights that are replaced
                operator = cls(content.signature, config, normalization=content.normalization, module=module)
            content.require_shapes({name: tuple(tensor.shape) for name, tensor in operator.state_dict().items()})
            return operator

        try:
            if module is None and config.target is not None:
                module_class(config.target, file=config.file)
                try:
                    with torch.device("meta"):
                        make()
                except ConfigError as error:
                    if "meta" not in str(error.__cause__):
                        raise  # else: its constructor reads numbers off tensors, and can only be called for real
            operator = make()
        except ConfigError as error:
            raise RunError(str(error)) from error
        tensors = content.tensors()
        for name, value in operator._own_tensors():  # its precision is that of the file, so that nothing is rounded
            if name in tensors:
                dtype = tensors[name].dtype
                value.data = value.data.to(dtype.to_complex() if value.is_complex() else dtype)
        operator.load_state_dict(tensors)  # into the tensors that are there, so that tied weights stay tied
        return cast(Self, operator)

    def _own_tensors(self) -> list[tuple[str, Tensor]]:
        named = [*self.named_parameters(remove_duplicate=False), *self.named_buffers(remove_duplicate=False)]
        return [(name, value) for name, value in named if value is not None]


def _parts(network: nn.Module) -> list[nn.Module]:
    """Return the children of a network that have weights, the members of lists one by one."""
    children = (own for child in network.children() for own in (child if isinstance(child, nn.ModuleList) else [child]))
    return [child for child in children if any(True for _ in child.parameters())]


def _construct(signature: Signature, config: ModuleConfig) -> nn.Module:
    if config.target is None:
        raise ConfigError(
            "This network was wrapped from an object, and its settings do not say how to make one. Give it: "
            'load_operator(path, module=…); or give target = "package.module:ClassName".'
        )
    words = {
        "{in_channels}": len(signature.inputs) + len(signature.coefficients),
        "{out_channels}": len(signature.outputs),
        "{num_spatial_dims}": signature.num_spatial_dims,
        "{none}": None,
    }
    cls = module_class(config.target, file=config.file)
    try:
        return cls(**{name: _replaced(value, words) for name, value in config.arguments.items()})
    except (TypeError, ValueError, AssertionError, AttributeError, KeyError, IndexError, RuntimeError) as error:
        raise ConfigError(f"{config.target} refuses its arguments: {type(error).__name__}: {error}") from error


def _replaced(value: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(part, words) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, words) for part in value]
    return words.get(value, value) if isinstance(value, str) else value
