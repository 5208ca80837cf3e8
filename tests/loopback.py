"""A web server on the loopback that misbehaves as told, for the tests of downloads."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import override


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the site's reply for its path."""

    server: Site

    def do_GET(self) -> None:
        replies = self.server.replies.get(self.path, [status(404)])
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers)))
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
        try:
            reply(self)
        except ConnectionError:
            self.close_connection = True

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


Reply = Callable[[Handler], None]


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, list[Reply]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lock = threading.Lock()
        self.ending = threading.Event()

    def put(self, path: str, *replies: Reply) -> str:
        """Answer requests for a path in turn, the last one for ever; its address."""
        self.replies[path] = list(replies)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()


def head(handler: Handler, code: int, length: int | None, **headers: str) -> None:
    handler.send_response(code)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def whole(content: bytes, *, length: bool = True, **headers: str) -> Reply:
    """The file, whatever range is asked for."""

    def reply(handler: Handler) -> None:
        head(handler, 200, len(content) if length else None, **headers)
        handler.wfile.write(content)
        handler.close_connection = True

    return reply


def ranged(content: bytes, etag: str = "") -> Reply:
    """The file or the range of it that is asked for, if it is still of this ETag."""

    def reply(handler: Handler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        headers = {"ETag": etag} if etag else {}
        if asked is None or handler.headers.get("If-Range", etag) != etag:
            return whole(content, **headers)(handler)
        start = int(asked[1])
        if start >= len(content):
            return status(416)(handler)
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        head(handler, 206, len(content) - start, Content_Range=span, **headers)
        handler.wfile.write(content[start:])
        return None

    return reply


def cut(content: bytes, after: int, etag: str = "") -> Reply:
    """Promises the file and hangs up."""

    def reply(handler: Handler) -> None:
        head(handler, 200, len(content), **({"ETag": etag} if etag else {}))
        handler.wfile.write(content[:after])
        handler.close_connection = True

    return reply


def stall(content: bytes, after: int, etag: str = "") -> Reply:
    """Begins, and then says nothing until the test is over."""

    def reply(handler: Handler) -> None:
        head(handler, 200, len(content), **({"ETag": etag} if etag else {}))
        handler.wfile.write(content[:after])
        handler.wfile.flush()
        handler.server.ending.wait(60)
        handler.close_connection = True

    return reply


def drip(content: bytes, pause_s: float) -> Reply:
    """A byte at a time."""

    def reply(handler: Handler) -> None:
        head(handler, 200, len(content))
        for byte in content:
            handler.wfile.write(bytes([byte]))
            if handler.server.ending.wait(pause_s):
                return

    return reply


def redirect(location: str) -> Reply:
    return lambda handler: head(handler, 302, 0, Location=location)


def status(code: int) -> Reply:
    return lambda handler: head(handler, code, 0)
