"""Get a container's image onto the node: pull policy, credentials, back-off, and the events people look for.

Used by sync/apply before it creates a container. Pulls of one image are joined; different ones run side by side.
Source: "Images" in the Kubernetes documentation.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from kybern.api.core_v1 import Pod, Secret
from kybern.client.recorder import EventRecorder
from kybern.kubelet import podkeys
from kybern.kubelet.cri import contract
from kybern.kubelet.cri.contract import Cri, CriError, Image
from kybern.kubelet.failures import Reason, StartFailed
from kybern.kubelet.podkeys import AnyContainer
from kybern.kubelet.security import ImageUser
from kybern.machinery.clock import Clock

FIRST_DELAY = 10.0
LONGEST_DELAY = 300.0
CONCURRENT_PULLS = 5

_NAME = re.compile(
    r"(?:(?P<host>(?:localhost|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]"
    r"|[A-Za-z0-9.-]+(?=:\d))(?::\d+)?)/)?"
    r"(?P<path>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,}))?"
)


@dataclass(frozen=True, slots=True)
class Name:
    """A parsed image name."""

    host: str
    path: str
    tag: str
    digest: str

    def full(self) -> str:
        """With registry and tag spelled out, as the runtime wants it."""
        text = f"{self.host}/{self.path}" if self.host else self.path
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            return f"{text}@{self.digest}"
        return text if self.tag else f"{text}:latest"


def parse_name(text: str) -> Name:
    """Raises ValueError."""
    match = _NAME.fullmatch(text)
    if match is None or len(text) > 1024:
        raise ValueError("invalid reference format")
    return Name(match["host"] or "", match["path"], match["tag"] or "", match["digest"] or "")


# Credentials.


class _Login(msgspec.Struct):
    username: str = ""
    password: str = ""
    auth: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _DockerConfig(msgspec.Struct):
    auths: dict[str, _Login] = {}


def credentials_for(image: Name, secrets: Sequence[Secret]) -> list[contract.Auth]:
    """Logins among the pull secrets that match the image's registry, the most specific first."""
    host = image.host or "index.docker.io"
    found: list[tuple[int, contract.Auth]] = []
    for secret in secrets:
        for where, login in _logins(secret).items():
            pattern = re.sub(r"^https?://", "", where).rstrip("/")
            server, _, path = pattern.partition("/")
            path = re.sub(r"^v[12](/|$)", "", path)
            if not _matches_host(server, host) or (path and not (image.path + "/").startswith(path + "/")):
                continue
            found.append((len(path), _auth_of(login, server)))
    return [auth for _, auth in sorted(found, key=lambda pair: -pair[0])]


def _logins(secret: Secret) -> dict[str, _Login]:
    try:
        if ".dockerconfigjson" in secret.data:
            return msgspec.json.decode(secret.data[".dockerconfigjson"], type=_DockerConfig).auths
        if ".dockercfg" in secret.data:
            return msgspec.json.decode(secret.data[".dockercfg"], type=dict[str, _Login])
    except msgspec.DecodeError:
        return {}
    return {}


def _matches_host(pattern: str, host: str) -> bool:
    if pattern in ("docker.io", "registry-1.docker.io"):
        pattern = "index.docker.io"
    if host in ("docker.io", "registry-1.docker.io"):
        host = "index.docker.io"
    wanted, _, port = pattern.partition(":")
    actual, _, actual_port = host.partition(":")
    if port != actual_port:
        return False
    parts, actual_parts = wanted.split("."), actual.split(".")
    return len(parts) == len(actual_parts) and all(
        a == b or ("*" in a and re.fullmatch(re.escape(a).replace(r"\*", "[^.]*"), b))
        for a, b in zip(parts, actual_parts, strict=True)
    )


def _auth_of(login: _Login, server: str) -> contract.Auth:
    username, password = login.username, login.password
    if login.auth and not username:
        try:
            username, _, password = base64.b64decode(login.auth).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            username, password = "", ""
    return contract.Auth(
        username=username,
        password=password.rstrip("\0"),
        server_address=server,
        identity_token=login.identitytoken,
        registry_token=login.registrytoken,
    )


@dataclass(slots=True)
class _BackOff:
    delay: float
    until: float  # monotonic
    problem: str


class Images:
    """Ensures images; one of it a node."""

    def __init__(self, cri: Cri, recorder: EventRecorder, clock: Clock) -> None:
        self._cri = cri
        self._recorder = recorder
        self._clock = clock
        self._backoffs: dict[tuple[str, str], _BackOff] = {}  # (pod uid, image)
        self._slots = asyncio.Semaphore(CONCURRENT_PULLS)

    async def ensure(
        self, pod: Pod, container: AnyContainer, secrets: Sequence[Secret], sandbox: contract.SandboxConfig | None
    ) -> Image:
        """The image, pulled if the policy says so. Raises StartFailed."""
        wanted = container.image or ""
        try:
            name = parse_name(wanted)
        except ValueError as error:
            message = f'Failed to apply default image tag "{wanted}": couldn\'t parse image name "{wanted}": {error}'
            self._event(pod, container, "Warning", "InspectFailed", message)
            raise StartFailed(Reason.IMAGE_NAME, message) from None
        full = name.full()
        try:
            present = await self._cri.image_status(full)
        except CriError as error:
            message = f'Failed to inspect image "{wanted}": {error}'
            self._event(pod, container, "Warning", "InspectFailed", message)
            raise StartFailed(Reason.IMAGE_INSPECT, message) from None
        policy = container.imagePullPolicy or ("IfNotPresent" if name.tag not in ("", "latest") else "Always")
        if present is not None and (policy != "Always" or name.digest):
            self._event(
                pod, container, "Normal", "Pulled",
                f'Container image "{wanted}" already present on machine and can be accessed by the pod',
            )  # fmt: skip
            return present
        if policy == "Never":
            message = f'Container image "{wanted}" is not present with pull policy of Never'
            self._event(pod, container, "Warning", "ErrImageNeverPull", message)
            raise StartFailed(Reason.IMAGE_NEVER_PULL, message)
        return await self._pull(pod, container, name, secrets, sandbox)

    async def _pull(
        self,
        pod: Pod,
        container: AnyContainer,
        name: Name,
        secrets: Sequence[Secret],
        sandbox: contract.SandboxConfig | None,
    ) -> Image:
        wanted = container.image or ""
        key = (pod.metadata.uid, name.full())
        waiting = self._backoffs.get(key)
        if waiting is not None and self._clock.monotonic() < waiting.until:
            message = f'Back-off pulling image "{wanted}"'
            self._event(pod, container, "Normal", "BackOff", message)
            raise StartFailed(Reason.IMAGE_BACK_OFF, f"{message}: {waiting.problem}")
        self._event(pod, container, "Normal", "Pulling", f'Pulling image "{wanted}"')
        asked = self._clock.monotonic()
        async with self._slots:
            started = self._clock.monotonic()
            try:
                image = await self._fetch(name, credentials_for(name, secrets), sandbox)
            except CriError as error:
                message = f'Failed to pull image "{wanted}": {error}'
                self._event(pod, container, "Warning", "Failed", message)
                problem = f"{Reason.IMAGE_PULL.value}: {error}"
                delay = min(waiting.delay * 2, LONGEST_DELAY) if waiting else FIRST_DELAY
                self._backoffs[key] = _BackOff(delay, self._clock.monotonic() + delay, problem)
                raise StartFailed(Reason.IMAGE_PULL, f'failed to pull image "{wanted}": {error}') from None
        self._backoffs.pop(key, None)
        now = self._clock.monotonic()
        self._event(
            pod, container, "Normal", "Pulled",
            f'Successfully pulled image "{wanted}" in {_seconds(now - started)} '
            f"({_seconds(now - asked)} including waiting). Image size: {image.size} bytes.",
        )  # fmt: skip
        return image

    async def _fetch(
        self, name: Name, logins: Sequence[contract.Auth], sandbox: contract.SandboxConfig | None
    ) -> Image:
        failure: CriError | None = None
        choices: Sequence[contract.Auth | None] = logins or [None]
        for login in choices:
            try:
                reference = await self._cri.pull_image(name.full(), login, sandbox)
            except CriError as error:
                failure = error
                continue
            image = await self._cri.image_status(reference) or await self._cri.image_status(name.full())
            if image is None:
                raise CriError("PullImage", "NotFound", f"image {name.full()} is not there after it was pulled")
            return image
        assert failure is not None
        raise failure

    def retry_delay(self, pod: Pod, container: AnyContainer) -> float:
        """Seconds until the image of this container may be pulled again."""
        try:
            full = parse_name(container.image or "").full()
        except ValueError:
            return LONGEST_DELAY
        waiting = self._backoffs.get((pod.metadata.uid, full))
        return max(0.0, waiting.until - self._clock.monotonic()) if waiting else 0.0

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for key in [k for k in self._backoffs if k[0] == uid]:
            del self._backoffs[key]

    def _event(self, pod: Pod, container: AnyContainer, kind: str, reason: str, message: str) -> None:
        self._recorder.event(pod, kind, reason, message, field_path=podkeys.field_path(pod, container.name))


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.3f}s"


def user_of(image: Image) -> ImageUser:
    """Whom the image runs as."""
    return ImageUser(image.uid, image.username)
