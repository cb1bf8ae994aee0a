"""Many runs, one question: does pre-training help where the physics is shifted, and how many samples is it worth?

Here lives what makes a study of runs (`recipe`, `jobs`, `study`), what is computed from its table (`analysis`, and what
it asks: scores of transfer, shift, scaling laws, audits) and what foretells it (`planner`, `learning_curves`). What is
found is a model of `scifm.findings`; how jobs are carried out is `scifm.execution`'s business, how a page looks the
report's.
"""

from scifm.execution.workers import worker_pool
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import Row, read_table

__all__ = ["Row", "StudyRecipe", "read_table", "study", "worker_pool"]
