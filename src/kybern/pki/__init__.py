"""Certificates, keys and kubeconfigs of a cluster on disk.

`ensure` is called by `kybern up`; the other commands read what it left under the data directory.
"""

from kybern.pki.ensure import Cluster, Pki, ensure
from kybern.pki.kubeconfig import write_kubeconfig

__all__ = ["Cluster", "Pki", "ensure", "write_kubeconfig"]
