"""The roles every cluster starts with, as tables. Read by bootstrap_roles.

One rule a line: `verbs | groups | resources [| names]`, or `verbs | paths`. The core group is written `core`;
an indented line goes on with the one before. Facts of a v1.36 cluster, as `kubectl get clusterroles` shows them;
those named system:kybern-* are ours.
"""
