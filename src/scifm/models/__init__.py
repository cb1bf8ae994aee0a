"""Learned operators: the interface, the Fourier neural operator, and how they are kept."""

from scifm.models.fno import FNO, FNOConfig
from scifm.models.hub import load_operator, save_operator
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.reference_weights import import_reference_weights
from scifm.models.registry import OPERATORS
from scifm.models.sizes import SIZES, fno_of_size

__all__ = [
    "FNO",
    "OPERATORS",
    "SIZES",
    "FNOConfig",
    "Operator",
    "OperatorConfig",
    "fno_of_size",
    "import_reference_weights",
    "load_operator",
    "save_operator",
]
