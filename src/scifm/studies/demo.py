"""The studies of ``scifm demo``, by name; written out in ``recipes/transfer-demo.toml`` and ``…-evolving.toml``."""

from __future__ import annotations

from typing import Any

__all__ = ["DEMOS"]

_STEADY: dict[str, Any] = {
    "title": "Poisson, moved to stronger anisotropy",
    "seeds": [0, 1],
    "few_shot": [16, 64, 256],
    "from_scratch": [16, 64, 256, 1024],
    "sizes": ["small"],
    "num_test_samples": 512,
    "data": {"num_points": 64},
    "training": {"num_steps": 6000, "validate_every": 500},
    "adapt": {
        "learning_rates": [3e-4, 1e-3],
        "scratch_learning_rates": [3e-3, 1e-2],
        "min_scored": 1,  # one split, to be done in minutes
        "training": {"num_steps": 200, "validate_every": 100, "checkpoint_every": 100},
    },
    "sources": [
        {"name": "poisson-1-5", "seeds": [0], "systems": [{"name": "poisson", "knobs": {"anisotropy": [1, 5]}}]}
    ],
    "targets": [{"name": "poisson-5-10", "system": {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}}],
}

_EVOLVING: dict[str, Any] = {
    "title": "Burgers, moved to thinner shocks",
    "seeds": [0, 1],
    "few_shot": [1, 4, 16],  # trajectories
    "from_scratch": [1, 4, 16, 64],
    "sizes": ["w24"],
    "models": {"w24": {"network": {"width": 24, "projection_width": 48, "latent_points": 64, "modes": 24}}},
    "pool_size": 64,
    "num_test_samples": 32,
    "data": {"num_points": 128, "num_validation_samples": 128},
    "training": {"num_steps": 4000, "learning_rate": 3e-3, "validate_every": 500},
    "adapt": {
        "learning_rates": [1e-3, 3e-3],
        "scratch_learning_rates": [3e-3, 1e-2],
        "min_scored": 1,
        "training": {"num_steps": 300, "validate_every": 300, "checkpoint_every": 300},
    },
    "sources": [
        {"name": "thick", "seeds": [0], "systems": [{"name": "burgers", "knobs": {"viscosity": [0.02, 0.05]}}]}
    ],
    "targets": [{"name": "thin", "system": {"name": "burgers", "knobs": {"viscosity": [0.01, 0.02]}}}],
}

DEMOS: dict[str, dict[str, Any]] = {"steady": _STEADY, "evolving": _EVOLVING}
"""Each a study of minutes on two cores: one source, one target, few samples against many from scratch."""
