"""What the simulated nodes look like: names, addresses, zones, sizes. Pure: numbers in, identities out.

Read by fleet and workload. Promise: node number i is the same node in every run.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from kybern.api.core_v1 import Taint
from kybern.kubelet.node.machine import Machine
from kybern.kubelet.node.status import Identity, Reserve

# Those of kwok (https://kwok.sigs.k8s.io), so that what is written for its nodes works with these.
TAINT = Taint(key="kwok.x-k8s.io/node", value="fake", effect="NoSchedule")
TYPE_LABEL, TYPE = "type", "kwok"

ADDRESSES = ipaddress.ip_network("198.18.0.0/15")  # RFC 2544: for benchmarks, routed nowhere
RESERVE = Reserve()
KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True)
class Shape:
    """How many nodes, and how big each."""

    nodes: int
    prefix: str = "simulated-"
    zones: int = 3
    cpus: int = 32
    memory: int = 256 << 30
    version: str = "v1.36.0"

    def name(self, number: int) -> str:
        return f"{self.prefix}{number:0{len(str(max(self.nodes - 1, 0)))}d}"

    def names(self) -> list[str]:
        return [self.name(number) for number in range(self.nodes)]

    def address(self, number: int) -> str:
        """The node's own. Raises ValueError where there are more nodes than addresses."""
        if number + 1 >= ADDRESSES.num_addresses - 1:
            raise ValueError(f"{ADDRESSES} has no address for node {number}")
        return str(ADDRESSES.network_address + number + 1)

    def identity(self, number: int) -> Identity:
        zone = f"simulated-{number % self.zones + 1}"
        return Identity(
            name=self.name(number),
            addresses=(self.address(number),),
            port=KUBELET_PORT,
            kubelet_version=self.version,
            labels={
                TYPE_LABEL: TYPE,
                "topology.kubernetes.io/region": "simulated",
                "topology.kubernetes.io/zone": zone,
                "node.kubernetes.io/instance-type": f"simulated-{self.cpus}",
            },
            taints=(TAINT,),
            provider_id=f"kwok://{self.name(number)}",
        )

    def machine(self, number: int) -> Machine:
        name = self.name(number)
        return Machine(
            cpus=self.cpus,
            memory=self.memory,
            disk=1 << 40,
            hugepages=(),
            machine_id=name,
            system_uuid=name,
            boot_id=name,
            kernel="6.0.0-simulated",
            os_image="Simulated",
            architecture="amd64",
        )
