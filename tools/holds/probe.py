"""Ask for one small object again and again, and remember the longest wait. A thread of its own: the socket blocks."""

from __future__ import annotations

import threading
import time

from tools.fuzz.client import Client

_PAUSE = 0.001


class Probe:
    """Between `with` and its end."""

    def __init__(self, port: int, target: str) -> None:
        self._client = Client(port)
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\n\r\n"
        self._request = request.encode()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="probe")
        self.waits: list[float] = []

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._is_over.is_set():
            began = time.perf_counter()
            self._client.send(self._request, is_whole=True)
            self.waits.append(time.perf_counter() - began)
            time.sleep(_PAUSE)
