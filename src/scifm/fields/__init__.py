"""Fields: grids, batches, spectral calculus, norms, resampling and the seed rule."""

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.norms import integral, l2_norm, rms
from scifm.fields.resample import resample
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import diffusion_operator, divergence, gradient, laplacian, wavenumbers

__all__ = [
    "Batch",
    "Grid",
    "Homogeneity",
    "Samples",
    "Signature",
    "diffusion_operator",
    "divergence",
    "generator_for",
    "gradient",
    "integral",
    "l2_norm",
    "laplacian",
    "resample",
    "rms",
    "wavenumbers",
]
