"""Many runs, one question."""

from scifm.studies.transfer import TransferRecipe, transfer

__all__ = ["TransferRecipe", "transfer"]
