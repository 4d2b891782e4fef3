"""IP addresses and CIDR blocks. Source: "Kubernetes IP/CIDR library" in the documentation."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from kybern.machinery.cel.errors import EvaluationError, no_overload
from kybern.machinery.cel.functions import Library, traversal
from kybern.machinery.cel.values import Opaque

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LIBRARY = Library(
    """
    ip(string): net.IP
    isIP(string): bool
    ip.isCanonical(string): bool
    string(net.IP): string
    net.IP -> family(): int
    net.IP -> isUnspecified(): bool
    net.IP -> isLoopback(): bool
    net.IP -> isLinkLocalMulticast(): bool
    net.IP -> isLinkLocalUnicast(): bool
    net.IP -> isGlobalUnicast(): bool
    cidr(string): net.CIDR
    isCIDR(string): bool
    string(net.CIDR): string
    net.CIDR -> containsIP(net.IP): bool
    net.CIDR -> containsIP(string): bool
    net.CIDR -> containsCIDR(net.CIDR): bool
    net.CIDR -> containsCIDR(string): bool
    net.CIDR -> ip(): net.IP
    net.CIDR -> masked(): net.CIDR
    net.CIDR -> prefixLength(): int
    """
)
_add = LIBRARY.add


class IP(Opaque):
    __slots__ = ("address",)
    cel_type = "net.IP"

    def __init__(self, address: _Address) -> None:
        self.address = address

    def equals(self, other: Any) -> bool:
        return bool(self.address == other.address)


class CIDR(Opaque):
    """An address (host bits kept) and a prefix length."""

    __slots__ = ("address", "bits")
    cel_type = "net.CIDR"

    def __init__(self, address: _Address, bits: int) -> None:
        self.address = address
        self.bits = bits

    def equals(self, other: Any) -> bool:
        return bool(self.address == other.address and self.bits == other.bits)

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network((self.address, self.bits), strict=False)


def parse_ip(text: str) -> _Address:
    """Raises EvaluationError: no zones, no IPv4 in IPv6, no leading zeros."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise EvaluationError(
            f"IP Address {_quoted(text)} parse error during conversion from string: "
            f"ParseAddr({_quoted(text)}): {_ip_fault(text)}"
        ) from None
    if "%" in text:
        raise EvaluationError(f"IP address {_quoted(text)} with zone value is not allowed")
    if address.version == 6 and address.ipv4_mapped is not None:
        raise EvaluationError(f"IPv4-mapped IPv6 address {_quoted(text)} is not allowed")
    return address


_LEADING_ZERO = re.compile(r"(?:[0-9]+\.)*0[0-9]+(?:\.[0-9]+)*")


def _ip_fault(text: str) -> str:
    return "IPv4 field has octet with leading zero" if _LEADING_ZERO.fullmatch(text) else "unable to parse IP"


_WHILE = "network address parse error during conversion from string: "


def parse_cidr(text: str) -> CIDR:
    """Raises EvaluationError."""
    head, slash, bits = text.rpartition("/")
    if not slash:
        raise _cidr_error(text, "no '/'")
    try:
        address = ipaddress.ip_address(head)
    except ValueError:
        raise _cidr_error(text, f"ParseAddr({_quoted(head)}): {_ip_fault(head)}") from None
    if "%" in head:
        raise _cidr_error(text, "IPv6 zones cannot be present in a prefix")
    if not re.fullmatch(r"0|[1-9][0-9]{0,9}", bits):
        raise _cidr_error(text, f"bad bits after slash: {_quoted(bits)}")
    if int(bits) > address.max_prefixlen:
        raise _cidr_error(text, "prefix length out of range")
    if address.version == 6 and address.ipv4_mapped is not None:
        raise EvaluationError(f"{_WHILE}IPv4-mapped IPv6 address {_quoted(text)} is not allowed")
    return CIDR(address, int(bits))


def _cidr_error(text: str, why: str) -> EvaluationError:
    return EvaluationError(f"{_WHILE}{_WHILE}netip.ParsePrefix({_quoted(text)}): {why}")


def _quoted(text: str) -> str:
    return f'"{text}"'


def _is(parse: Any, text: str) -> bool:
    try:
        parse(text)
    except EvaluationError:
        return False
    return True


@_add("ip", str, cost=traversal)
def _ip(text: str) -> IP:
    return IP(parse_ip(text))


@_add("isIP", str, cost=traversal)
def _is_ip(text: str) -> bool:
    return _is(parse_ip, text)


@_add("ip.isCanonical", str, cost=lambda a: 2 * traversal(a))
def _is_canonical(text: str) -> bool:
    return str(parse_ip(text)) == text


@_add("string", IP)
def _ip_text(a: IP) -> str:
    return str(a.address)


@_add("family", IP)
def _family(a: IP) -> int:
    return a.address.version


@_add("isUnspecified", IP)
def _is_unspecified(a: IP) -> bool:
    return a.address.is_unspecified


@_add("isLoopback", IP)
def _is_loopback(a: IP) -> bool:
    return a.address.is_loopback


_MULTICAST = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))


@_add("isLinkLocalMulticast", IP)
def _is_link_local_multicast(a: IP) -> bool:
    return any(a.address in network for network in _MULTICAST if network.version == a.address.version)


@_add("isLinkLocalUnicast", IP)
def _is_link_local_unicast(a: IP) -> bool:
    return a.address.is_link_local


@_add("isGlobalUnicast", IP)
def _is_global_unicast(a: IP) -> bool:
    address = a.address
    broadcast = address == ipaddress.IPv4Address("255.255.255.255")
    return not (
        broadcast or address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    )


@_add("cidr", str, cost=traversal)
def _cidr(text: str) -> CIDR:
    return parse_cidr(text)


@_add("isCIDR", str, cost=traversal)
def _is_cidr(text: str) -> bool:
    return _is(parse_cidr, text)


@_add("string", CIDR)
def _cidr_text(a: CIDR) -> str:
    return f"{a.address}/{a.bits}"


@_add("containsIP", CIDR, IP)
def _contains_ip(a: CIDR, b: IP) -> bool:
    return a.address.version == b.address.version and b.address in a.network


@_add("containsIP", CIDR, str, cost=lambda _a, b: 1 + traversal(b))
def _contains_ip_text(a: CIDR, b: str) -> bool:
    if not _is_ip(b):
        raise no_overload()  # the words of upstream
    return bool(_contains_ip(a, _ip(b)))


@_add("containsCIDR", CIDR, CIDR)
def _contains_cidr(a: CIDR, b: CIDR) -> bool:
    return a.address.version == b.address.version and b.bits >= a.bits and b.address in a.network


@_add("containsCIDR", CIDR, str, cost=lambda _a, b: 1 + traversal(b))
def _contains_cidr_text(a: CIDR, b: str) -> bool:
    return bool(_contains_cidr(a, parse_cidr(b)))


@_add("ip", CIDR)
def _cidr_ip(a: CIDR) -> IP:
    return IP(a.address)


@_add("masked", CIDR)
def _masked(a: CIDR) -> CIDR:
    return CIDR(a.network.network_address, a.bits)


@_add("prefixLength", CIDR)
def _prefix_length(a: CIDR) -> int:
    return a.bits
