"""What the DNS server counts, under CoreDNS's names where they fit. Filled by answer.py and serve.py."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


class Metrics:
    """The counters of one server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter("coredns_dns_requests", "Packets received.", ["proto"], registry=registry)
        self.udp, self.tcp = requests.labels("udp"), requests.labels("tcp")
        self._responses = Counter("coredns_dns_responses", "Answers built.", ["rcode"], registry=registry)
        self._by_rcode = {code: self._responses.labels(name) for code, name in _RCODES.items()}
        self.kept = Counter("coredns_cache_hits", "Answers sent as they were built before.", registry=registry)
        self.dropped = Counter("kybern_dns_dropped", "Packets dropped because too many waited.", registry=registry)

    def count(self, rcode: int) -> None:
        """An answer with this code."""
        counter = self._by_rcode.get(rcode)
        if counter is None:
            counter = self._by_rcode[rcode] = self._responses.labels(str(rcode))
        counter.inc()
