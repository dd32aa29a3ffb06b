# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of files by HTTP, on loopback, that does what servers and lines do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves CONTENT at /image; what it was asked for is in ASKED: from which byte.

    CUTS are after how many bytes each of the next answers breaks off; RANGES: it knows them.
    HEADERS replace what it says, or go if they are empty; ENDLESS is what it says on and on,
    and ELSEWHERE where it leads.
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
        end = begin + self.cuts.pop(0) if self.cuts else len(self.content)
        request.wfile.write(self.content[begin:end])
        self.sent += min(end, len(self.content)) - begin


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
