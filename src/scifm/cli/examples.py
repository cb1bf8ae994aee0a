"""One line for each verb that works as it stands in the project's folder, given in this order.

Tests give them all, shortened, but those that take minutes or never end (demo, study, play).
"""

from __future__ import annotations

__all__ = ["EXAMPLES"]

EXAMPLES: dict[str, str] = {
    "demo": "scifm demo",
    "systems": "scifm systems",
    "generate": "scifm generate poisson --num-samples 512 --out stores/poisson",
    "verify": "scifm verify stores/poisson",
    "inspect": "scifm inspect stores/poisson",
    "pretrain": "scifm pretrain recipes/poisson-small.toml --set training.num_steps=100",
    "finetune": "scifm finetune runs/poisson-small-* --system poisson --num-samples 16",
    "evaluate": "scifm evaluate runs/finetune-16-* --system poisson --knob anisotropy=5,10",
    "scores": "scifm scores runs/finetune-16-*",
    "check": "scifm check runs/poisson-small-*",
    "compress": "scifm compress runs/poisson-small-* --to int8 --out models/small",
    "report": "scifm report runs/finetune-16-*",
    "play": "scifm play runs/poisson-small-*",
    "export": "scifm export runs/finetune-16-* --to onnx",
    "plan": "scifm plan runs/poisson-small-* --data stores/poisson --target-error 0.02",
    "study": "scifm study recipes/transfer-tiny.toml --out runs/tiny",
    "import": "scifm import measured.nc --out stores/measured",
}
"""Verb → command line; the help lists verbs in this order, those that need files of one's own last."""
