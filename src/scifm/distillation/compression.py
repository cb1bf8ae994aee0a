"""`Compression`: the interface of every way to get the same answers from less."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scifm.config import Config
from scifm.models.hub import save_operator
from scifm.models.operator import Operator

__all__ = ["Compressed", "Compression"]


@dataclass(frozen=True)
class Compressed:
    """What a compression gives.

    Args:
        operator: answers exactly as what is saved and loaded again.
        codec: how its tensors are stored, a name in ``scifm.models.codecs.CODECS``; None: as they are.
    """

    operator: Operator
    codec: str | None = None

    def save(self, path: str | Path) -> None:
        """Write it as the folder of a model, which `load_operator` reads.

        Raises:
            RunError: if the folder cannot be written.
        """
        save_operator(self.operator, path, codec=self.codec)


class Compression(Config, abc.ABC):
    """One way to make an operator smaller, with its settings, which are the fields of the subclass.

    Class variables:
        name: by which the command line and ``COMPRESSIONS`` know it.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def compress(self, operator: Operator) -> Compressed:
        """Return a smaller operator of the same names; the given one stays as it was.

        What was compressed already is not changed by compressing it again.

        Raises:
            DataError: if the operator's weights are not finite.
        """
