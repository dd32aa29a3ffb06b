# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest agent that says what a test wants: it lies, or says nothing beyond what libvirt needs.

The guest passes on what comes through its agent's port (tiny/init, "relay"): this is the
program at the other end.
"""

import json
import socket
import threading


class HostileAgent:
    """What the guest's agent answers: ANSWERS by command, as text; nothing to all others."""

    def __init__(self, path):
        self.answers = {}
        self.asked = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def returns(self, command, value):
        """Answer COMMAND by VALUE from now on."""
        self.answers[command] = json.dumps({"return": value})

    def _serve(self):
        with self._socket.makefile("rb") as requests:
            for line in requests:
                request = json.loads(line.lstrip(b"\xff"))
                command = request["execute"]
                self.asked.append(command)
                if command == "guest-sync":
                    self._answer(json.dumps({"return": request["arguments"]["id"]}))
                elif command in self.answers:
                    self._answer(self.answers[command])

    def _answer(self, text):
        self._socket.sendall(text.encode() + b"\n")
