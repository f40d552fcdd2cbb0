"""What the proxy counts, for Prometheus, and whether it can serve, for whoever starts and stops proxies.

Rule: answers GET /metrics and GET /health with one response each and closes; it reads nothing but the first line.
"""

from __future__ import annotations

from durakv.proxy.hub import Hub
from durakv.proxy.info import facts
from durakv.world.ports import Stream

_REQUEST_MAX = 8192


class MetricsPage:
    """A StreamHandler, one per connection."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._stream: Stream | None = None
        self._seen = b""

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        self._stream = stream

    def on_data(self, data: bytes) -> None:
        """Answer once the request's head is complete."""
        stream = self._stream
        if stream is None:
            return
        self._seen += data
        if b"\r\n\r\n" not in self._seen and b"\n\n" not in self._seen:
            if len(self._seen) > _REQUEST_MAX:
                stream.abort()
            return
        words = self._seen.split(b"\n", 1)[0].split()
        path = words[1] if len(words) > 1 and words[0] in (b"GET", b"HEAD") else b""
        if path == b"/metrics":
            stream.write(_response(b"200 OK", exposition(self._hub)))
        elif path == b"/health":
            served = self._hub.table.complete()
            stream.write(_response(b"200 OK", b"ok\n") if served else
                         _response(b"503 Service Unavailable", b"slots without a leader\n"))  # fmt: skip
        else:
            stream.write(_response(b"404 Not Found", b"ask for /metrics or /health\n"))
        stream.close()
        self._stream = None

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self._stream = None


def exposition(hub: Hub) -> bytes:
    """The Prometheus text format, version 0.0.4."""
    lines = []
    for name, value, kind, text in facts(hub):
        full = f"durakv_proxy_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}", f"{full} {value}"]
    return ("\n".join(lines) + "\n").encode()


def _response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(body)) + body
