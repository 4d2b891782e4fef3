"""Write the pod network's configuration and the host's part of it; take both away.

Called by the kubelet (in a thread: it blocks) with the PodNetwork; renders by conflist.py and port_maps.py. Promises
that doing it again changes nothing, and that the runtime sees the file last, when the host is ready.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import structlog

from kybern.kubelet.cni import conflist, port_maps
from kybern.kubelet.cni.conflist import PodNetwork

_NFT = "/usr/sbin/nft"
_IPTABLES = {"ip": "/usr/sbin/iptables", "ip6": "/usr/sbin/ip6tables"}  # the plugin prepares both
_SIOCGIFMTU = 0x8921
_DEFAULT_MTU = 1500
# Packets of pods pass through the host. A pod that reaches itself through a Service goes back where it came
# from, for which the host would else advise it of a better way.
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}

log = structlog.get_logger(__name__)


def write_config(directory: Path, network: PodNetwork) -> bool:
    """Make the host and the CNI directory ready for pods; whether the configuration file is new or changed.

    Raises OSError, with what nft said if it was nft.
    """
    for name, value in _SYSCTLS.items():
        _set_sysctl(Path("/proc/sys") / name, value)
    _run_nft(conflist.render_masquerade(network))
    Path(network.lease_directory).mkdir(parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    content = conflist.render_conflist(network, network.mtu or default_mtu())
    file = directory / conflist.FILE
    if file.exists() and file.read_bytes() == content:
        return False
    # The runtime watches for *.conflist: it must never read half of one.
    draft = file.with_suffix(".tmp")
    draft.write_bytes(content)
    draft.replace(file)
    log.info("wrote the pod network", file=str(file), pods=[str(n) for n in network.ranges])
    return True


def cleanup(directory: Path, lease_directory: Path) -> None:
    """Take away the file, the addresses given out, our table and the host ports' chains, once the pods are gone."""
    (directory / conflist.FILE).unlink(missing_ok=True)
    shutil.rmtree(lease_directory / conflist.NAME, ignore_errors=True)
    _run_nft(conflist.render_removal())
    for family, program in _IPTABLES.items():
        if os.access(program, os.X_OK):
            _remove_port_maps(family, program)


def default_mtu() -> int:
    """The MTU of the interface that the default route leaves by."""
    name = ""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination, *_ = line.split()
        if destination == "00000000":
            name = interface
            break
    if not name:
        return _DEFAULT_MTU
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, _SIOCGIFMTU, struct.pack("16sI12x", name.encode(), 0))
    return int(struct.unpack("16sI12x", answer)[1])


def _set_sysctl(path: Path, value: str) -> None:
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError as error:
        log.warning("could not set a kernel parameter", parameter=str(path), value=value, error=str(error))


def _run_nft(script: str) -> None:
    try:
        subprocess.run([_NFT, "-f", "-"], input=script.encode(), check=True, capture_output=True, timeout=30)
    except subprocess.CalledProcessError as error:
        raise OSError(f"nft refused the masquerade table: {error.stderr.decode(errors='replace').strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise OSError("nft did not answer within 30 s") from error


def _remove_port_maps(family: str, program: str) -> None:
    listing = _iptables(program, "-S")
    for arguments in port_maps.plan_removal(listing):
        _iptables(program, *arguments)
    if not port_maps.has_rules(_iptables(program, "-S")):
        # iptables-nft made the table for the plugin; iptables makes it again when somebody needs it.
        subprocess.run([_NFT, "delete", "table", family, "nat"], check=False, capture_output=True, timeout=30)


def _iptables(program: str, *arguments: str) -> str:
    command = [program, "-w", "5", "-t", "nat", *arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    if result.returncode:
        log.warning("iptables failed", command=command, error=result.stderr.strip())
        return ""
    return result.stdout
