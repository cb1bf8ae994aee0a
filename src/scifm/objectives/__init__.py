"""What a training run makes small."""

from scifm.objectives.supervised import (
    SUPERVISED,
    mean_squared_error,
    objective_named,
    relative_l2_loss,
    summed_squared_error,
)

OBJECTIVES = dict(SUPERVISED)

__all__ = [
    "OBJECTIVES",
    "SUPERVISED",
    "mean_squared_error",
    "objective_named",
    "relative_l2_loss",
    "summed_squared_error",
]
