"""Scores: one name, one formula, nothing reduced in silence.

Here live metrics (`pointwise`: a function and a line in ``METRICS``), what to hold an error against (`baselines`), and
`evaluate`, which scores an operator sample by sample and records it with the origin of the samples. What may not live
here: what trains, what asks more of an operator than an answer (`trust`), and what compares runs (`studies`).
"""

from scifm.evaluation.baselines import persistence
from scifm.evaluation.evaluate import Scores, evaluate
from scifm.evaluation.pointwise import METRICS, mae, max_error, relative_l2, relative_l2_joint, rmse, vrmse

__all__ = [
    "METRICS",
    "Scores",
    "evaluate",
    "mae",
    "max_error",
    "persistence",
    "relative_l2",
    "relative_l2_joint",
    "rmse",
    "vrmse",
]
