# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a fleet, by HTTP: for Prometheus, and for people.

Nothing can be changed here, whoever asks for what.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

from pyguixvm.errors import HypervisorError
from pyguixvm.exporter.fleet import Fleet
from pyguixvm.exporter.metrics import CONTENT_TYPE, exposition
from pyguixvm.exporter.news import News
from pyguixvm.exporter.page import content, page

# Seconds: how long a scrape waits for hypervisors, one that asks may take to do so, and what is
# sent while there is nothing new.
_PATIENCE = 0.5
_ASK_SECONDS = 10.0
_ALIVE_SECONDS = 5.0
# As many may be answered at once, and of them as many may wait for news.
_MOST = 64
_MOST_LISTENERS = 32
# A comment, of which browsers tell pages nothing, would not do.
_ALIVE = b"event: alive\ndata:\n\n"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Answers for FLEET at ADDRESS, a host and a port.  Raises HypervisorError if it cannot."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], fleet: Fleet) -> None:
        """Listen; nobody is answered before `serve_forever`."""
        self.fleet = fleet
        self.news = News()
        self.free = threading.BoundedSemaphore(_MOST)
        self.listeners = threading.BoundedSemaphore(_MOST_LISTENERS)
        fleet.news = self.news.tell
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise HypervisorError(
                f"cannot listen at {address[0]} port {address[1]}: {error.strerror or error}",
                hint="Is another exporter running? Choose another one with --listen.",
            ) from error

    @property
    def url(self) -> str:
        """Where people find it."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else host
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def process_request(self, request: object, client_address: object) -> None:
        """Answer REQUEST in a thread, or not at all if there are too many already."""
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Answer REQUEST, and make place for another one."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self.free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over what went wrong with one that asked: most go away while they are answered."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "pyguixvm"
    sys_version = ""
    timeout = _ASK_SECONDS

    def do_GET(self) -> None:
        answers: dict[str, Callable[[], None]] = {
            "/": self._page,
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/events": self._events,
            "/page.css": lambda: self._file("page.css", "text/css"),
            "/page.js": lambda: self._file("page.js", "text/javascript"),
        }
        answer = answers.get(self.path.partition("?")[0])
        if answer is None:
            self._answer(404, "text/plain; charset=utf-8", b"There is nothing here.\n")
        else:
            answer()

    do_HEAD = do_GET  # noqa: N815 -- the name that http.server calls

    def log_message(self, *_said: object) -> None:
        """Say nothing: a scrape each quarter of a minute is no news."""

    def _metrics(self) -> None:
        begun = time.monotonic()
        view = self.server.fleet.view(_PATIENCE)
        text = exposition(view, time.time(), time.monotonic() - begun)
        self._answer(200, CONTENT_TYPE, text)

    def _page(self) -> None:
        fleet = self.server.fleet
        text = page(fleet.view(), fleet.history.of, time.time())
        self._answer(200, "text/html; charset=utf-8", text.encode())

    def _health(self) -> None:
        dead = self.server.fleet.dead
        if dead:
            said = "".join(f"{each} ended\n" for each in dead)
            self._answer(503, "text/plain; charset=utf-8", said.encode(errors="replace"))
        else:
            self._answer(200, "text/plain; charset=utf-8", b"ok\n")

    def _file(self, name: str, kind: str) -> None:
        self._answer(200, f"{kind}; charset=utf-8", packaged(name).encode())

    def _events(self) -> None:
        """Send what is in the page whenever there is something new, until nobody listens."""
        if not self.server.listeners.acquire(blocking=False):
            self._answer(503, "text/plain; charset=utf-8", b"Too many listen already.\n")
            return
        try:
            self._begin(200, "text/event-stream", None)
            self.close_connection = True
            number = -1
            while self.command == "GET":
                newer = self.server.news.after(number, _ALIVE_SECONDS)
                self.wfile.write(_ALIVE if newer is None else self._news())
                self.wfile.flush()
                number = number if newer is None else newer
        finally:
            self.server.listeners.release()

    def _news(self) -> bytes:
        fleet = self.server.fleet
        text = content(fleet.view(), fleet.history.of, time.time())
        lines = "".join(f"data: {line}\n" for line in text.splitlines())
        return f"event: news\n{lines}\n".encode(errors="replace")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self._begin(status, kind, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _begin(self, status: int, kind: str, size: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if size is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(size))
        self.end_headers()


def packaged(name: str) -> str:
    """Return the text of the file NAME that comes with this package."""
    return resources.files("pyguixvm.exporter").joinpath("files", name).read_text()
