"""Pre-training, fine-tuning and training from scratch: recipes in, run folders out.

`loop` owns the order of things; beside it stands what it asks: costs, checkpoints, weights, processes, sharing (the
gradient of a step), optimizers (a class and a line in ``OPTIMIZERS``). `recording` writes down what happens and tells
it to loggers (a class and a line in ``LOGGERS``). `pretrain` and `finetune` make runs of it, `choice` says how an
adaptation is chosen. What may not live here: what a loss is (`objectives`), plots, studies of many runs.
"""

from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loggers import LOGGERS
from scifm.training.loop import DivergedError, TrainingConfig, train
from scifm.training.methods import METHODS, FinetuneMethod
from scifm.training.pretrain import PretrainRecipe, pretrain

__all__ = [
    "LOGGERS",
    "METHODS",
    "AdaptRecipe",
    "DivergedError",
    "FinetuneMethod",
    "PretrainRecipe",
    "TrainingConfig",
    "finetune",
    "from_scratch",
    "pretrain",
    "train",
]
