"""Many runs, one question."""

from scifm.studies.transfer import TransferRecipe, transfer, worker_pool

__all__ = ["TransferRecipe", "transfer", "worker_pool"]
