"""Learned operators: the interface, Fourier neural operators, a U-Net, a transformer, ensembles, anyone's.

An operator is a class in a file here and a line in ``OPERATORS`` (`registry`), or an entry point ``scifm.operators`` of
another package; it says itself what it can (`operator`). ``parts/`` holds layers and kernels, `folder` how a model lies
on disk, `foreign_files` how other people's weights come in, `surgery` how one is changed, `export` how it leaves. What
may not live here: an equation (models never import systems), a loss, an optimizer, data.
"""

from scifm.models.axial_transformer import AXIAL_SIZES, AxialTransformer, AxialTransformerConfig
from scifm.models.continuous import Continuous, ContinuousConfig
from scifm.models.coordinate import Coordinate, CoordinateConfig
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.fno import FNO, SIZES, FNOConfig
from scifm.models.foreign_files import import_neuralop_weights, import_reference_weights
from scifm.models.in_context import InContext, InContextConfig
from scifm.models.module_operator import ModuleConfig, ModuleOperator
from scifm.models.neuralop_fno import NeuralopFNO, NeuralopFNOConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.registry import OPERATORS, load_operator, save_operator
from scifm.models.unet import UNet, UNetConfig

__all__ = [
    "AXIAL_SIZES",
    "FNO",
    "OPERATORS",
    "SIZES",
    "AxialTransformer",
    "AxialTransformerConfig",
    "Continuous",
    "ContinuousConfig",
    "Coordinate",
    "CoordinateConfig",
    "Ensemble",
    "EnsembleConfig",
    "FNOConfig",
    "InContext",
    "InContextConfig",
    "ModuleConfig",
    "ModuleOperator",
    "NeuralopFNO",
    "NeuralopFNOConfig",
    "Operator",
    "OperatorConfig",
    "UNet",
    "UNetConfig",
    "import_neuralop_weights",
    "import_reference_weights",
    "load_operator",
    "save_operator",
]
