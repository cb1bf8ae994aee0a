"""The study of ``scifm demo``: Poisson, moved to stronger anisotropy; ``recipes/transfer-demo.toml`` is the same."""

from __future__ import annotations

from typing import Any

__all__ = ["DEMO"]

DEMO: dict[str, Any] = {
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
