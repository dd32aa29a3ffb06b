# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluators are found and stopped by their sockets, with a real socket of the test's own."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyguixvm.guix import evaluators
from pyguixvm.guix.evaluators import Evaluator


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-") as name:
        yield Path(name)


class Server:
    """Answers at a socket in a directory as an evaluator does, until it is to stop."""

    def __init__(self, directory: Path) -> None:
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(directory / "a.socket"))
        self._socket.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        with self._socket:
            while not self.heard or self.heard[-1] != "stop":
                connection, _ = self._socket.accept()
                with connection, connection.makefile("rb") as lines:
                    self.heard.append(json.loads(lines.readline())["command"])
                    answer = (
                        {"stopped": True}
                        if self.heard[-1] == "stop"
                        else {"pong": {"pid": os.getpid()}}
                    )
                    connection.sendall(json.dumps(answer).encode() + b"\n")


def test_what_runs_is_told_and_stopped(directory: Path) -> None:
    server = Server(directory)
    (found,) = evaluators.running(directory)
    assert (found.pid, found.busy) == (os.getpid(), False)
    assert found.memory is not None
    assert found.memory > 1024**2
    (stopped,) = evaluators.stop(directory)
    server.thread.join()
    assert (stopped.pid, server.heard) == (os.getpid(), ["ping", "ping", "stop"])
    assert evaluators.running(directory) == evaluators.stop(directory) == ()


def test_what_a_crash_left_behind_is_none(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory / "left.socket"))
    assert evaluators.running(directory) == ()


def test_one_that_has_no_time_to_answer_is_busy(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "busy.socket"))
        server.listen()
        found = evaluators.running(directory, seconds=0.1)
        assert evaluators.stop(directory, seconds=0.1) == found
        asked = [server.accept()[0].recv(100) for _ in range(3)]
    assert b'"stop"' in asked[-1]
    assert found == (Evaluator(None, None, None, busy=True),)
