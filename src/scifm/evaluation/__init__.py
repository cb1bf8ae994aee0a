"""Scores: one name, one formula, nothing reduced in silence.

Here live metrics (`pointwise`: a function and a line in ``METRICS``), and `evaluate`, which scores an operator sample
by sample and records it with the origin of the samples; `persistence` needs no operator. `embed` tells what a model
makes of samples inside, `similarity` how alike systems are to it. What may not live here: what
trains, what asks more of an operator than an answer (`trust`), and what compares runs (`studies`).
"""

from scifm.evaluation.embedding import Embedding, embed
from scifm.evaluation.evaluate import Scores, evaluate, persistence
from scifm.evaluation.pointwise import METRICS, mae, max_error, relative_l2, relative_l2_joint, rmse, vrmse
from scifm.evaluation.similarity import similarity

__all__ = [
    "METRICS",
    "Embedding",
    "Scores",
    "embed",
    "evaluate",
    "mae",
    "max_error",
    "persistence",
    "relative_l2",
    "relative_l2_joint",
    "rmse",
    "similarity",
    "vrmse",
]
