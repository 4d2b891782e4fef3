"""The node's pod network: configuration for the runtime's CNI plugins, and what the host must do for it.

The kubelet calls `write_config` when its Node has a podCIDR; `kybern reset` calls `cleanup`. See README.md.
"""

from kybern.kubelet.cni.conflist import PodNetwork
from kybern.kubelet.cni.network import cleanup, write_config

__all__ = ["PodNetwork", "cleanup", "write_config"]
