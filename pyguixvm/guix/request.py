# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to the Scheme evaluator, and its answer.

One request on each connection, one line of JSON in each direction; the other
side is ``guix/pyguixvm/evaluator/request.scm``.
"""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from pyguixvm import process
from pyguixvm.errors import EvaluationError
from pyguixvm.guix import endpoint
from pyguixvm.guix.endpoint import Setting
from pyguixvm.interruption import LOOK_SECONDS, end_here_if_asked, followed_here
from pyguixvm.model.declaration import SCHEMA

Forward: TypeAlias = Callable[[bytes], None]
Building: TypeAlias = Callable[[], None]

# "off" has each request answered by a process of its own, which ends with it.
EVALUATOR_VARIABLE = "PYGUIXVM_EVALUATOR"

# A single evaluation ends before garbage matters; with memory for all that Guix loads, Guile
# does not look for it.  The configuration sees the request's environment, not this.
_SINGLE = {"GC_INITIAL_HEAP_SIZE": "512M"}

# Seconds that the evaluator has, beyond the time limit, to say that it was exceeded.
_GRACE = 15.0
_LONGEST_WAIT = 3600.0
_CHUNK = 65536
# What comes before an answer as soon as Guix builds or fetches something for it.
_BUILDING = b'{"building":true}\n'
# Of an evaluator that has loaded other versions of files than a new one would.
_OUTDATED = b'{"unfit":"outdated"}\n'
_SHADOWED = b'{"unfit":"shadowed"}\n'


class _LostError(Exception):
    """The evaluator closed the connection without a word: it was about to end."""


class _UnfitError(Exception):
    """A process of its own has to answer."""


class Exchange:
    """The way to the evaluator for one Guix, its build options and environment."""

    def __init__(
        self,
        guix: Path,
        options: Sequence[str],
        environment: Mapping[str, str],
        *,
        connect: Callable[[Setting, Path], socket.socket] = endpoint.connect,
    ) -> None:
        """Remember whom to ask.  Nothing is started: CONNECT does that when it is called.

        OPTIONS are build options as ``guix system`` takes them, file names absolute.
        """
        self._setting = Setting(guix, dict(environment))
        self._options = tuple(options)
        self._connect = connect

    def ask(
        self,
        command: str,
        request: Mapping[str, object],
        *,
        forward: Forward,
        seconds: float,
        building: Building = lambda: None,
    ) -> bytes:
        """Return the answer to COMMAND with what REQUEST adds, which may take SECONDS.

        That is unless Guix builds or fetches something for it, which takes what it takes:
        BUILDING is called when it begins to.  FORWARD gets what is written to standard error
        meanwhile.  Raises EvaluationError if there is no answer.
        """
        whole = {
            **request,
            "schema": SCHEMA,
            "command": command,
            "options": self._options,
            "directory": _directory(),
            "environment": _readable(self._setting.environment),
            "stderr": None,
            "time-limit": round(seconds),
        }
        if self._setting.environment.get(EVALUATOR_VARIABLE) == "off":
            return self._ask_new_one(whole, forward)
        directory = endpoint.runtime_directory(self._setting.environment)
        # An evaluator that has waited long enough may end just when we come, and one that has
        # loaded what was changed since ends because we come.
        try:
            for _ in range(3):
                with suppress(_LostError):
                    return self._ask(whole, directory, forward, seconds, building)
        except _UnfitError:
            return self._ask_new_one(whole, forward)
        raise EvaluationError(
            "the evaluator ended without an answer",
            hint=f"Its log is in {directory}.  {EVALUATOR_VARIABLE}=off does without it.",
        )

    def _ask_new_one(self, request: Mapping[str, object], forward: Forward) -> bytes:
        # Without a time limit: nobody tells whether Guix builds something.
        try:
            done = process.run(
                self._setting.command("--once"),
                stdin=_line(request),
                environment={**self._setting.environment, **_SINGLE},
                on_error_line=lambda line: forward(f"{line}\n".encode()),
            )
        except process.CommandFailedError as error:
            raise EvaluationError(f"the evaluation failed: {error.message}") from error
        return done.stdout

    def _ask(
        self,
        request: Mapping[str, object],
        directory: Path,
        forward: Forward,
        seconds: float,
        building: Building,
    ) -> bytes:
        with (
            _fifo(directory) as (name, messages),
            self._connect(self._setting, directory) as connection,
        ):
            # Closing the connection, as any exception does, ends the evaluation.
            try:
                connection.sendall(_line({**request, "stderr": name}))
            except ConnectionError:
                raise _LostError from None
            answer = _receive(connection, messages, forward, seconds + _GRACE, building)
            _forward_available(messages, forward)
        if answer == _OUTDATED:
            raise _LostError
        if answer == _SHADOWED:
            raise _UnfitError
        return answer


def _directory() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise EvaluationError(
            "the directory that this was started in is gone", hint="Go to another one."
        ) from None


def _readable(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ENVIRONMENT without the variables that are no UTF-8: Guile has no strings for them."""
    return {
        name: value
        for name, value in environment.items()
        if not any("\udc80" <= character <= "\udcff" for character in name + value)
    }


def _line(request: Mapping[str, object]) -> bytes:
    # Not msgspec: file names may hold what is no UTF-8, which json escapes.
    return json.dumps(request).encode() + b"\n"


@contextmanager
def _fifo(directory: Path) -> Iterator[tuple[str, int]]:
    """Yield the name of a new FIFO in DIRECTORY, and a descriptor to read it by."""
    own = tempfile.mkdtemp(prefix="stderr-", dir=directory)
    try:
        name = str(Path(own) / "fifo")
        os.mkfifo(name, 0o600)
        # Also open for writing: a FIFO without writers would be readable all the time.
        descriptor = os.open(name, os.O_RDWR | os.O_NONBLOCK)
        try:
            yield name, descriptor
        finally:
            os.close(descriptor)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _receive(
    connection: socket.socket,
    messages: int,
    forward: Forward,
    seconds: float,
    building: Building,
) -> bytes:
    """Return the answer that arrives on CONNECTION; forward MESSAGES meanwhile.

    Unless BUILDING is called for, it is to arrive within SECONDS.
    """
    limit = time.monotonic() + seconds
    received = bytearray()
    while not received.endswith(b"\n"):
        end_here_if_asked()
        remaining = max(limit - time.monotonic(), 0)
        wait = remaining if followed_here() is None else min(remaining, LOOK_SECONDS)
        ends = [connection.fileno(), messages]
        readable, _, _ = select.select(ends, [], [], min(wait, _LONGEST_WAIT))
        if not readable and remaining == 0:
            raise EvaluationError(f"the evaluation did not end within {seconds:g} s")
        if messages in readable:
            _forward_available(messages, forward)
        if connection.fileno() in readable:
            data = _receive_some(connection)
            if not data:
                raise _LostError
            received += data
        while received.startswith(_BUILDING):
            del received[: len(_BUILDING)]
            if limit != math.inf:
                limit = math.inf
                building()
    return bytes(received)


def _receive_some(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_CHUNK)
    except ConnectionResetError:
        return b""


def _forward_available(messages: int, forward: Forward) -> None:
    with suppress(BlockingIOError):
        while data := os.read(messages, _CHUNK):
            forward(data)
