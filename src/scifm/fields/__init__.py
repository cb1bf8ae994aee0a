"""What travels and the calculus on it: grids, batches, spectral derivatives, norms, normalization, the seed rule.

Everything here is about numbers on a grid and their names, and true of any equation and any network: so systems and
models, which never meet, both stand on it. What may not live here: an equation, a network, a file.
"""

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.norms import integral, l2_norm, rms
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
    "rms",
    "wavenumbers",
]
