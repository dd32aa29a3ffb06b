# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of files by HTTP, on loopback, that does what servers and lines do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves CONTENT at /image; what it was asked for is in ASKED: from which byte.

    CUTS are after how many bytes each of the next answers breaks off; RANGES: it knows them.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.cuts: list[int] = []
        self.ranges = True
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
        if self.status != 200:
            request.send_error(self.status)
            return
        if not self.ranges:
            begin = 0
        if begin and begin >= len(self.content):
            request.send_error(416)
            return
        request.send_response(206 if begin else 200)
        if begin:
            last = len(self.content) - 1
            request.send_header("Content-Range", f"bytes {begin}-{last}/{len(self.content)}")
        request.send_header("Content-Length", str(len(self.content) - begin))
        request.end_headers()
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
