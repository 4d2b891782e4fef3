"""Deployments: replace pods of an old template by pods of a new one, through a ReplicaSet a revision.

reconcile -> plan (which step) -> rollout (how many), revision (which set), conditions (what to tell)
"""

from kybern.controllers.deployment.reconcile import DeploymentController, build

__all__ = ["DeploymentController", "build"]
