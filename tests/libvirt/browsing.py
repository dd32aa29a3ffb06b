# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Chromium without a window, told what to do by its DevTools protocol."""

import base64
import http.client
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from contextlib import contextmanager

_KEYS = {"Tab": 9, "Enter": 13}


class _Line:
    """A WebSocket (RFC 6455), as much of it as this takes: texts that are masked, and whole."""

    def __init__(self, port, path):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            pass

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        length = bytes([0x80 | 126]) + struct.pack(">H", len(data))
        if len(data) < 126:
            length = bytes([0x80 | len(data)])
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self._socket.sendall(b"\x81" + length + mask + masked)

    def receive(self):
        whole = b""
        while True:
            first, length = self._file.read(2)
            if length == 126:
                (length,) = struct.unpack(">H", self._file.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._file.read(8))
            whole += self._file.read(length)
            if first & 0x80:
                return whole.decode()

    def close(self):
        self._file.close()
        self._socket.close()


class Tab:
    """What a Chromium shows; COMPLAINTS is what it said on its console."""

    def __init__(self, line):
        self._line = line
        self._numbers = itertools.count(1)
        self.complaints = []
        for domain in ("Page", "Runtime", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **parameters):
        """Return what METHOD of the protocol answers."""
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._line.receive())
            if said.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded"}:
                self.complaints.append(said["params"])
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    def open(self, url, *, width=1280, scheme="light", scripts=True):
        """Open URL as a window of WIDTH shows it, in the colours of SCHEME."""
        self.tell("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.tell(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.tell("Page.navigate", url=url)
        # It is another page from now on, of which nothing may be there yet.
        self.wait("document.readyState !== 'loading'")

    def value(self, expression):
        """Return what EXPRESSION is in the page."""
        found = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def told(self):
        """Return what assistive technology is told: roles, and names."""
        nodes = self.tell("Accessibility.getFullAXTree")["nodes"]
        return {
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        }

    def press(self, key, code=None):
        """Press KEY, as a keyboard does."""
        about = {"key": key, "code": code or key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.tell("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.tell("Input.dispatchKeyEvent", type="keyUp", **about)

    def shoot(self, file):
        """Write what is shown, and what is below it as far as that is not endless, to FILE."""
        size = self.tell("Page.getLayoutMetrics")["cssContentSize"]
        # A bar to scroll by is no part of what is taken.
        width = self.value("window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(size["height"], 2400),
                "scale": 1}  # fmt: skip
        found = self.tell("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def wait(self, expression, seconds=60):
        """Return as soon as EXPRESSION is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < deadline, (expression, self.value("document.body?.innerText"))
            time.sleep(0.2)


@contextmanager
def browser(directory):
    """Yield a tab of a Chromium that keeps what it knows in DIRECTORY."""
    process = subprocess.Popen(
        ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--user-data-dir={directory / 'browser'}", "about:blank"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        found = None
        while found is None:
            said = process.stderr.readline()
            assert said, "the browser ended"
            found = re.search(r"ws://127\.0\.0\.1:(\d+)/", said)
        port = int(found[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/json/list")
        (page,) = (p for p in json.loads(connection.getresponse().read()) if p["type"] == "page")
        connection.close()
        line = _Line(port, page["webSocketDebuggerUrl"].split(str(port), 1)[1])
        yield Tab(line)
        line.close()
    finally:
        # Debian's is a shell's script, which waits for the browser itself and for its helpers.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # Not to its end: helpers of the browser hold it for a while longer.
        process.stderr.close()
