"""`Compression`: the interface of every way to get the same answers from less."""

from __future__ import annotations

import abc
from typing import ClassVar

from scifm.config import Config
from scifm.models.operator import Operator

__all__ = ["Compression"]


class Compression(Config, abc.ABC):
    """One way to make an operator smaller, with its settings, which are the fields of the subclass.

    Class variables:
        name: by which the command line and ``COMPRESSIONS`` know it.
        codec: how tensors are stored, a name in ``scifm.models.codecs.CODECS``; None: as they are.
    """

    name: ClassVar[str]
    codec: ClassVar[str | None] = None

    @abc.abstractmethod
    def compress(self, operator: Operator) -> Operator:
        """Return a smaller operator of the same names; the given one stays as it was.

        It answers exactly as what is saved by the codec and loaded again. What was compressed already is not changed by
        compressing it again.

        Raises:
            DataError: if the operator's weights are not finite.
        """
