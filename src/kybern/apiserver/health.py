"""/healthz, /livez and /readyz with their named checks, as text. Asked by load balancers and by `kybern status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kybern.apiserver.request import Request, Response
from kybern.machinery.status import ApiError

# name -> "" when fine, else what is wrong
Check = Callable[[], str]


class Health:
    """The checks of one endpoint family."""

    def __init__(self, endpoint: str, checks: Mapping[str, Check]) -> None:
        self._endpoint = endpoint
        self._checks = checks

    def __call__(self, request: Request) -> Response:
        """200 `ok`, or 500 with the list of checks; `?verbose` lists them always, `?exclude=x` leaves one out."""
        tail = request.path.removeprefix(f"/{self._endpoint}").strip("/")
        if tail:
            check = self._checks.get(tail)
            if check is None:
                raise ApiError.no_such_path()
            fault = check()
            return _text(500, f"internal server error: {fault}\n") if fault else _text(200, "ok")
        excluded = set(request.query.get("exclude", ()))
        lines, failed = [], []
        for name, check in self._checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            fault = check()
            if fault:
                failed.append(name)
            # Why a check fails is not for everybody; it is in the log.
            lines.append(f"[-]{name} failed: reason withheld" if fault else f"[+]{name} ok")
        if failed:
            return _text(500, "\n".join([*lines, f"{self._endpoint} check failed\n"]))
        if "verbose" in request.query:
            return _text(200, "\n".join([*lines, f"{self._endpoint} check passed\n"]))
        return _text(200, "ok")


def _text(status: int, text: str) -> Response:
    headers = (("X-Content-Type-Options", "nosniff"),)
    return Response(status=status, body=text.encode(), content_type="text/plain; charset=utf-8", headers=headers)
