"""Which API versions are served: the --runtime-config flag. Pure.

Asked by apiserver/server. Stable versions are on, alpha and beta ones off, unless the flag says otherwise.
Source: kube-apiserver --runtime-config.
"""

from __future__ import annotations

from collections.abc import Callable


def parse(text: str) -> Callable[[str, str], bool]:
    """`api/alpha=true,networking.k8s.io/v1beta1=false` as a question: is (group, version) served?

    Raises ValueError for anything that is not key=true or key=false.
    """
    wanted: dict[str, bool] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, separator, value = part.partition("=")
        if separator and value not in ("true", "false"):
            raise ValueError(f'runtime-config: "{part}" is not of the form <group>/<version>=true|false')
        wanted[key] = value != "false"

    def is_enabled(group: str, version: str) -> bool:
        own = wanted.get(f"{group}/{version}" if group else version)
        if own is not None:
            return own
        stability = "alpha" if "alpha" in version else "beta" if "beta" in version else "ga"
        return wanted.get(f"api/{stability}", wanted.get("api/all", stability == "ga"))

    return is_enabled
