"""Pre-training, fine-tuning and training from scratch: recipes in, run folders out."""

from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loop import DivergedError, TrainingConfig, train
from scifm.training.methods import METHODS, FinetuneMethod
from scifm.training.pool import DownstreamPool, downstream_pool
from scifm.training.pretrain import PretrainRecipe, pretrain

__all__ = [
    "METHODS",
    "AdaptRecipe",
    "DivergedError",
    "DownstreamPool",
    "FinetuneMethod",
    "PretrainRecipe",
    "TrainingConfig",
    "downstream_pool",
    "finetune",
    "from_scratch",
    "pretrain",
    "train",
]
