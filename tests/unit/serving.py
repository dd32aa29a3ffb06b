# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of files by HTTP, on loopback, that does what servers and lines do."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves CONTENT at /image; what it was asked for is in ASKED: from which byte.

    CUTS are after how many bytes each of the next answers breaks off; RANGES: it knows them.
    HEADERS replace what it says, or go if they are empty; ENDLESS is what it says on and on,
    and ELSEWHERE where it leads.  After PAUSE bytes, if any, it says nothing until it is to
    GO_ON, or whoever asked has LEFT.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.cuts: list[int] = []
        self.ranges = True
        self.headers: dict[str, str] = {}
        self.endless = b""
        self.elsewhere = ""
        self.status = 200
        self.asked: list[int] = []
        self.sent = 0
        self.port = 0
        self.pause = 0
        self.paused, self.go_on, self.left = (threading.Event() for _ in range(3))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/image"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        begin = int(request.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        self.asked.append(begin)
        if self.elsewhere:
            request.send_response(302)
            request.send_header("Location", self.elsewhere)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if self.status != 200:
            request.send_error(self.status)
            return
        if not self.ranges:
            begin = 0
        if begin and begin >= len(self.content):
            request.send_error(416)
            return
        request.send_response(206 if begin else 200)
        headers = {"Content-Length": str(len(self.content) - begin)}
        if begin:
            last = len(self.content) - 1
            headers["Content-Range"] = f"bytes {begin}-{last}/{len(self.content)}"
        for name, value in (headers | self.headers).items():
            if value:
                request.send_header(name, value)
        request.end_headers()
        with suppress(OSError):  # who asked has heard enough
            while self.endless:
                request.wfile.write(self.endless)
        if self.pause:
            request.wfile.write(self.content[begin : self.pause])
            begin = max(begin, self.pause)
            self._pause(request)
        end = begin + self.cuts.pop(0) if self.cuts else len(self.content)
        with suppress(OSError):
            request.wfile.write(self.content[begin:end])
        self.sent += min(end, len(self.content)) - begin

    def _pause(self, request: BaseHTTPRequestHandler) -> None:
        self.paused.set()
        while not self.go_on.is_set():
            if select.select([request.connection], [], [], 0.05)[0]:
                self.left.set()
                return


@contextmanager
def served(content: bytes) -> Iterator[Server]:
    """Serve CONTENT while the body runs."""
    server = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
