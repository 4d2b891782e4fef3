"""References to container images: `registry:5000/path/name:tag@sha256:...`.

Read by defaults (pull policy) and the kubelet. Source: the reference grammar of the OCI distribution project.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH = rf"{_PATH_PART}(?:/{_PATH_PART})*"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PATH})"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """Parts of a reference, Docker's short forms spelled out ("busybox" is docker.io/library/busybox)."""

    domain: str
    path: str
    tag: str  # "" where none is given
    digest: str

    @property
    def effective_tag(self) -> str:
        """What is pulled: "latest" where neither tag nor digest is given."""
        return self.tag or ("" if self.digest else "latest")


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Reference:
    """Raises ValueError("invalid reference format")."""
    first, slash, _ = text.partition("/")
    has_domain = bool(slash) and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    match = _REFERENCE.fullmatch(text if has_domain else f"docker.io/{text}")
    if match is None or _IDENTIFIER.fullmatch(text):
        raise ValueError("invalid reference format")
    domain, path = match["domain"] or "", match["path"]
    if not has_domain and "/" not in path:
        path = f"library/{path}"
    if len(domain) + 1 + len(path) > _LONGEST_NAME:
        raise ValueError(f"repository name must not be more than {_LONGEST_NAME} characters")
    return Reference(domain, path, match["tag"] or "", match["digest"] or "")


def default_pull_policy(text: str) -> str:
    """Always for :latest, spelled out or not; IfNotPresent otherwise, also for what is no reference."""
    try:
        return "Always" if parse(text).effective_tag == "latest" else "IfNotPresent"
    except ValueError:
        return "IfNotPresent"
