"""Admission policies as Python functions: what an author of policies imports, and what runs them.

    from kybern.api.core_v1 import Pod
    from kybern.policies import Request, admission

    @admission.validate
    def says_whose_it_is(pod: Pod, request: Request) -> str | None:
        return None if "team" in pod.metadata.labels else "set the label 'team'"

The way of a policy: admission (decorators) -> load (a folder of files) -> evaluate (one call, cut at its budget) ->
worker (a process of its own) <- pool (the API server's side) ; offline runs them on manifests. See docs/policies.md.
"""

from kybern.policies import admission
from kybern.policies.request import Request, User

__all__ = ["Request", "User", "admission"]
