"""Pre-training, fine-tuning and training from scratch: recipes in, run folders out."""

from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loop import DivergedError, TrainingConfig, train
from scifm.training.methods import METHODS, FinetuneMethod
from scifm.training.pretrain import PretrainRecipe, pretrain

__all__ = [
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
