"""Samples on their way: stores on disk, streams that store nothing, origins, and which samples are seen when.

Here live stores in The Well's schema (`store`, `split`, `generate`), foreign files (`formats`, `importing`,
`inspection`), what a training is fed with (`stream`, `subsets`), the one answer to where samples come from (`origins`,
`run_origin`) and the fitting of normalizations. A file format is a file in ``formats/`` and a
line in its registry. What may not live here: losses (`objectives`, a sibling), scores, and anything that trains.
"""

from scifm.data.card import Card
from scifm.data.generate import generate
from scifm.data.mixtures import MixtureOrigin
from scifm.data.normalize import fit_normalization, refit_coefficients
from scifm.data.origins import DownstreamPool, Origin, StoreOrigin, SystemOrigin
from scifm.data.split import StoreSplit
from scifm.data.statistics import Statistics
from scifm.data.store import Store, require_signature
from scifm.data.stream import BatchSource, Epochs, Stream
from scifm.data.subsets import cross_validation, nested_subsets, split_validation
from scifm.data.tensor_samples import TensorSamples

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
