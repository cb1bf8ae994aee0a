"""The data room: stores on disk, streams that store nothing, and which samples are seen when."""

from scifm.data.card import Card
from scifm.data.generate import generate
from scifm.data.normalize import fit_normalization, refit_coefficients
from scifm.data.origin import DownstreamPool, Origin
from scifm.data.origins import MixtureOrigin, StoreOrigin, SystemOrigin
from scifm.data.split import StoreSplit
from scifm.data.statistics import Statistics
from scifm.data.store import Store, require_signature
from scifm.data.stream import BatchSource, Epochs, Stream
from scifm.data.subsets import cross_validation, nested_subsets, split_validation
from scifm.data.torch_view import TensorSamples

__all__ = [
    "BatchSource",
    "Card",
    "DownstreamPool",
    "Epochs",
    "MixtureOrigin",
    "Origin",
    "Statistics",
    "Store",
    "StoreOrigin",
    "StoreSplit",
    "Stream",
    "SystemOrigin",
    "TensorSamples",
    "cross_validation",
    "fit_normalization",
    "generate",
    "nested_subsets",
    "refit_coefficients",
    "require_signature",
    "split_validation",
]
