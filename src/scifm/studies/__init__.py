"""Many runs, one question."""

from scifm.studies.transfer import TransferRecipe, transfer
from scifm.studies.workers import worker_pool

__all__ = ["TransferRecipe", "transfer", "worker_pool"]
