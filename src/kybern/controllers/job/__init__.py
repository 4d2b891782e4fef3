"""Jobs: run pods until enough of them have succeeded.

reconcile -> plan (a step) -> tally (what counts), verdict (is it over), failure_policy, indexes
"""

from kybern.controllers.job.reconcile import JobController, build

__all__ = ["JobController", "build"]
