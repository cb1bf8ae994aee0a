"""Scores: one name, one formula, nothing reduced in silence."""

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
