"""Settings of a small network of each kind, for what is asked of all of them: a new kind has a line here."""

from __future__ import annotations

import networks
import tiny
from scifm.models.axial_transformer import AxialTransformerConfig
from scifm.models.continuous import ContinuousConfig
from scifm.models.conv_recurrent import ConvRecurrentConfig
from scifm.models.coordinate import CoordinateConfig
from scifm.models.ensemble import EnsembleConfig
from scifm.models.fno import FNOConfig
from scifm.models.in_context import InContextConfig
from scifm.models.module_operator import ModuleConfig
from scifm.models.neuralop_fno import NeuralopFNOConfig
from scifm.models.operator import OperatorConfig
from scifm.models.recurrent import RecurrentConfig
from scifm.models.unet import UNetConfig

__all__ = ["SMALL"]

_BLOCKS = {"width": 16, "num_heads": 2, "num_blocks": 2, "patch": 4, "condition_width": 8}

SMALL: dict[str, OperatorConfig] = {
    "fno": FNOConfig(**tiny.NETWORK),
    "unet": UNetConfig(width=4, levels=3, blocks=1, projection_width=8),
    "axial_transformer": AxialTransformerConfig(**_BLOCKS),
    "in_context": InContextConfig(**_BLOCKS, context_blocks=1),
    "ensemble": EnsembleConfig(member=FNOConfig(**tiny.NETWORK), num_members=2, num_heads=2),
    "continuous": ContinuousConfig(**tiny.NETWORK, num_steps=2, basis=2, scheme="midpoint"),
    "coordinate": CoordinateConfig(width=6, num_layers=2),
    "recurrent": RecurrentConfig(width=8, num_layers=2),
    "conv_recurrent": ConvRecurrentConfig(width=4, halvings=2, peepholes=False, answers="changes"),
    "neuralop_fno": NeuralopFNOConfig(n_modes=(6, 6), hidden_channels=4, n_layers=2),
    "module": ModuleConfig(
        target=f"{networks.__name__}:GlobalNet",
        arguments={"channels_in": "{in_channels}", "channels_out": "{out_channels}"},
    ),
}
