"""`Stored`: how an operator lies in a folder, and how it comes from there, from the hub and to it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from scifm.config import build_config
from scifm.errors import RunError
from scifm.fields.batch import Signature
from scifm.fields.domain import Domain
from scifm.fields.normalization import Normalization
from scifm.findings.provenance import Provenance
from scifm.models.architecture import OperatorConfig
from scifm.models.calibration import Calibration
from scifm.models.card import ModelCard
from scifm.models.folder import ModelContent, pretrained_folder, reading, send_folder, write_folder
from scifm.runs import write_atomically

__all__ = ["Stored"]


class Stored(nn.Module):
    """What an operator is on disk: a folder in the layout of the Hugging Face hub, see `scifm.models.folder`."""

    config_class: ClassVar[type[OperatorConfig]] = OperatorConfig
    """The class of its architecture settings."""
    needs_module: bool = False
    """Whether loading it again needs the network as an object."""
    signature: Signature
    config: OperatorConfig
    normalization: Normalization
    domain: Domain
    provenance: Provenance
    calibration: Calibration | None

    def __init__(
        self, signature: Signature, config: OperatorConfig, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__()
        self.signature, self.config = signature, config

    @property
    def kind(self) -> str:
        """Its name in ``scifm.models.OPERATORS``, or that of its entry point."""
        return self.config.kind

    @property
    def num_params(self) -> int:
        """Numbers that train; a complex weight is two."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self.parameters())

    def describe(self) -> dict[str, Any]:
        """Return everything but the weights, ready for JSON."""
        return {
            "kind": self.kind,
            "signature": self.signature.to_dict(),
            "domain": self.domain.to_dict(),
            "network": self.config.to_dict(),
            "normalization": self.normalization.to_dict(),
        }

    def save_pretrained(
        self, path: str | Path, *, card: ModelCard | Mapping[str, Any] | None = None, codec: str | None = None
    ) -> None:
        """Write the folder `path` in the layout of the Hugging Face hub.

        Args:
            path: the folder; made when it is not there.
            card: what only you can say about it, see `ModelCard`.
            codec: how its weights are written, a name in ``scifm.models.codecs.CODECS``; as they are when left out.

        Raises:
            ConfigError: if the card has settings it does not know.
            DataError: if a codec cannot write the weights, which are not finite.
            RunError: if the folder cannot be written; a file that was there before is whole.
        """
        text = self._page(ModelCard.of(card))
        about: Any = {"provenance": self.provenance, "calibration": self.calibration}
        write_folder(path, self.describe(), self.state_dict(), text, codec=codec, **about)

    def _page(self, card: ModelCard) -> str:
        about: dict[str, Any] = {"domain": self.domain, "provenance": self.provenance}
        return card.text(self.kind, self.signature, self.num_params, needs_module=self.needs_module, **about)

    def remember(self, folder: Path, past: Provenance) -> None:
        """Write what is new of its past beside its weights, and on its page where nobody else wrote on that.

        Nothing is written where it does not lie any more, or of one of before: it tells nothing of its past, and so no
        news alone.

        Args:
            folder: where it lies, one's own.
            past: its provenance, with what is new; its own from now on.

        Raises:
            RunError: if the folder cannot be written.
        """
        if self.provenance == Provenance() or not folder.is_dir():
            return
        page = folder / "README.md"
        untouched = not page.is_file() or page.read_text(encoding="utf-8") == self._page(ModelCard())
        self.provenance = past
        past.write(folder)
        if untouched:
            write_atomically(page, self._page(ModelCard()).encode())

    @classmethod
    def rebuilt(cls, content: ModelContent, *, module: nn.Module | None = None) -> Self:
        """Return the operator of this class that a folder holds.

        Args:
            module: the network itself, for one that was wrapped from an object.

        Raises:
            ConfigError, RunError, SignatureError: if the files do not fit each other.
        """
        config = build_config(cls.config_class, content.entries["network"], source="config.json")
        operator = cls._with_weights(config, content, module)
        operator.domain, operator.provenance = content.domain, content.provenance
        operator.calibration = content.calibration
        return operator

    @classmethod
    def _with_weights(cls, config: OperatorConfig, content: ModelContent, module: nn.Module | None) -> Self:
        if module is not None:
            raise RunError(f"module= is for operators of kind 'module'; this one is of kind '{config.kind}'.")
        with torch.device("meta"):  # no first weights, which would cost time
            operator = cls(content.signature, config, normalization=content.normalization)
        content.require_shapes({name: tuple(tensor.shape) for name, tensor in operator.state_dict().items()})
        operator.load_state_dict(content.tensors(), assign=True)
        return operator

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, *, revision: str | None = None, module: nn.Module | None = None
    ) -> Self:
        """Load a folder, or a model of the Hugging Face hub by its id.

        Args:
            path_or_id: a folder, of a model or of a finished run, or ``name/model``; a folder that is there wins.
            revision: branch, tag or commit on the hub.
            module: the network itself, for one that was wrapped from an object.

        Raises:
            ConfigError: if a revision is asked of a folder.
            RunError: if there is no such model, it is of another kind, the hub cannot be reached, or a file is missing
                or damaged.
        """
        with reading(pretrained_folder(path_or_id, revision=revision)) as content:
            mine = cls._of_kind(content.kind)
            if mine is None:
                raise RunError(
                    f"it is of kind '{content.kind}', and no {cls.__name__}. Use scifm.load_operator, which knows "
                    "every kind that is installed."
                )
            return mine.rebuilt(content, module=module)

    @classmethod
    def _of_kind(cls, kind: str) -> type[Self] | None:
        """Return this class or the one below it that is of a kind, if it has been imported."""
        below = (sub._of_kind(kind) for sub in cls.__subclasses__())
        return cls if cls.config_class.kind == kind else next(filter(None, below), None)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, branch: str | None = None, token: str | None = None,
        card: ModelCard | Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """Upload to the Hugging Face hub; the repository and the branch are made when they are not there.

        Args:
            repo_id: ``name/model``.
            private: whether a new repository is hidden from others.
            branch: of the repository; ``main`` when left out.
            token: of an account that may write; the one stored by ``hf auth login`` when left out.
            card: what only you can say about it, see `ModelCard`.

        Returns:
            The address of the model.

        Raises:
            ConfigError: if the card has settings it does not know.
            RunError: if the hub cannot be reached or refuses.
        """
        message = f"A {self.kind} operator with {self.num_params} weights"
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, card=card)
            return send_folder(folder, repo_id, private=private, branch=branch, token=token, message=message)
