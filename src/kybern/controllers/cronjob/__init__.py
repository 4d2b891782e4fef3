"""CronJobs: a job whenever the schedule says so."""

from kybern.controllers.cronjob.reconcile import CronJobController, build

__all__ = ["CronJobController", "build"]
