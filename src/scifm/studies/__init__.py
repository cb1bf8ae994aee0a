"""Many runs, one question."""

from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import Row, read_table
from scifm.studies.transfer import TransferRecipe, transfer
from scifm.studies.workers import worker_pool

__all__ = ["Row", "StudyRecipe", "TransferRecipe", "read_table", "study", "transfer", "worker_pool"]
