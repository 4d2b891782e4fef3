"""Why a container or pod could not be started: the reasons people see in `kubectl get pods`.

Raised by env, security, volumes, images and sync/apply; caught by sync/apply, shown by status, told by events.
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """`state.waiting.reason` of a container that could not be started."""

    CONFIG = "CreateContainerConfigError"
    CREATE = "CreateContainerError"
    RUN = "RunContainerError"
    PRE_START = "PreStartHookError"
    POST_START = "PostStartHookError"
    IMAGE_PULL = "ErrImagePull"
    IMAGE_BACK_OFF = "ImagePullBackOff"
    IMAGE_NEVER_PULL = "ErrImageNeverPull"
    IMAGE_INSPECT = "ImageInspectError"
    IMAGE_NAME = "InvalidImageName"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    CRASH_LOOP = "CrashLoopBackOff"


class StartFailed(Exception):
    """A container cannot be started now; tried again later."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class VolumeFailed(Exception):
    """A volume of a pod could not be prepared; tried again later. `missing`: waiting for something to appear."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(message)
        self.volume = volume
        self.message = message


class Rejected(Exception):
    """The node will not run this pod: it becomes Failed with this reason and message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
