"""Many jobs, on whatever there is to work on: what depends on what, workers here, workers elsewhere.

Here live the graph of jobs with a file for each result (`graph`), processes that share this machine (`workers`) and
Dask, with folders that travel where no file system is shared (`cluster`). A job is a function that returns plain JSON;
what it computes is none of this room's business: nothing here knows of studies, plans or training.
"""

from scifm.execution.graph import Graph, Job, JobsFailedError
from scifm.execution.workers import worker_pool

__all__ = ["Graph", "Job", "JobsFailedError", "worker_pool"]
