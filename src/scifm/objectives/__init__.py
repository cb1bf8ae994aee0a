"""What a training run makes small: objectives, objects with settings over an operator and a batch.

Here live losses and what they promise. They may ask the operator, the batch and the equation; they know neither
optimizers nor where samples come from. A class in a file here and a line in `OBJECTIVES` is a new one, and buys
the tests of the contract; one of another package joins through the entry points ``scifm.objectives``.
"""

from scifm.objectives.collocation import Collocation
from scifm.objectives.huber import Huber
from scifm.objectives.masked import Masked
from scifm.objectives.objective import Objective
from scifm.objectives.residual import Residual
from scifm.objectives.supervised import MeanSquaredError, RelativeChange, RelativeL2, SummedSquaredError, Supervised

OBJECTIVES: dict[str, type[Objective]] = {
    "relative_l2": RelativeL2,
    "relative_change": RelativeChange,
    "mean_squared_error": MeanSquaredError,
    "summed_squared_error": SummedSquaredError,
    "huber": Huber,
    "masked": Masked,
    "collocation": Collocation,
    "residual": Residual,
}

__all__ = [
    "OBJECTIVES",
    "Collocation",
    "Huber",
    "Masked",
    "MeanSquaredError",
    "Objective",
    "RelativeChange",
    "RelativeL2",
    "Residual",
    "SummedSquaredError",
    "Supervised",
]
