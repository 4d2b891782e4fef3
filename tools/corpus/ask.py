"""Put requests to an API server over TLS, several at a time.

Used by record. Answers keep the order of the requests; what only says when and by whom is left to compare.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import ssl
import threading
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any


class Server:
    """One server, as one user. Connections are kept, one a thread."""

    def __init__(self, url: str, token: str, workers: int = 6) -> None:
        self._host = urllib.parse.urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._local = threading.local()
        self._workers = workers
        # A judge started for this comparison on the same machine: who answers is known without its certificate.
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def ask(self, method: str, target: str, body: Any = None) -> Answer:
        data = None if body is None else orjson.dumps(body)
        for _ in range(2):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = http.client.HTTPSConnection(self._host, context=self._tls, timeout=30)
                self._local.connection = connection
            try:
                connection.request(method, target, data, self._headers)
                response = connection.getresponse()
                content = response.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                self._local.connection = None
                continue
            try:
                return Answer(response.status, orjson.loads(content))
            except orjson.JSONDecodeError:
                return Answer(response.status, content.decode(errors="replace"))
        return Answer(0, None)  # it hangs up on this one: upstream panics on a few malformed objects

    def ask_all(self, requests: Iterable[tuple[str, str, Any]]) -> list[Answer]:
        """The answers to (method, target, body), in order."""
        with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(lambda request: self.ask(*request), requests))
