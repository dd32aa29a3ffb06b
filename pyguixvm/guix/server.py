# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluator that stays between commands: finding it, starting it, asking it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pyguixvm.errors import EvaluationError, PyguixvmError
from pyguixvm.guix.command import identity
from pyguixvm.guix.scheme import scheme_files
from pyguixvm.process import detach

IDLE = 1800
_START_DEADLINE = 120.0
_CHUNK = 65536

# Guix and Guile read these when their modules load, so that they belong to what
# an evaluator is; every other variable travels with the request.
_IDENTIFYING = (
    "GUIX_DAEMON_SOCKET", "GUIX_PACKAGE_PATH", "GUIX_STATE_DIRECTORY", "GUIX_EXTENSIONS_PATH",
    "GUIX_LOCPATH", "GUILE_LOAD_PATH", "GUILE_LOAD_COMPILED_PATH", "HOME", "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LC_CTYPE",
)  # fmt: skip


@dataclass(frozen=True)
class Address:
    """Where the evaluator of one guix, load path and environment listens."""

    directory: Path
    name: str

    @classmethod
    def of(cls, guix: Path, load_path: Sequence[Path], environment: Mapping[str, str]) -> Address:
        """Return the address; another guix, or a changed file of ours, has another one."""
        identifying = (
            identity(guix),
            [str(directory) for directory in load_path],
            [identity(file) for file in scheme_files()],
            {name: environment.get(name) for name in _IDENTIFYING},
        )
        digest = hashlib.sha256(msgspec.json.encode(identifying)).hexdigest()
        return cls(_runtime_directory(environment), digest[:20])

    @property
    def socket(self) -> Path:
        """The file name of its UNIX socket, well below the kernel's limit of 107 bytes."""
        return self.directory / f"{self.name}.socket"


def _runtime_directory(environment: Mapping[str, str]) -> Path:
    runtime = environment.get("XDG_RUNTIME_DIR")
    parent = Path(runtime) if runtime else Path(tempfile.gettempdir())
    # sockaddr_un has room for 107 bytes.
    if len(str(parent)) > 60 or not parent.is_dir():  # noqa: PLR2004
        parent = Path("/tmp")  # noqa: S108 -- our directory in it is made private below
    return parent / (f"pyguixvm-{os.getuid()}" if parent != Path(runtime or "") else "pyguixvm")


def ask(
    address: Address,
    command: Sequence[str],
    request: msgspec.Struct,
    environment: Mapping[str, str],
    forward: Callable[[bytes], None],
) -> bytes:
    """Return the answer of the evaluator at ADDRESS to REQUEST, starting it by COMMAND if need be.

    What the worker writes to standard output and error goes to FORWARD
    meanwhile.  Raises EvaluationError if it goes away without an answer.
    """
    _make_private(address.directory)
    connection = _connect(address.socket) or _start(address, command, environment)
    with connection, _fifo(address.directory) as (path, output):
        line = msgspec.json.encode(msgspec.structs.replace(request, stderr=str(path)))
        connection.sendall(line + b"\n")
        return _receive(connection, output, forward)


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or stat.S_IMODE(found.st_mode) != 0o700  # noqa: PLR2004
    ):
        raise PyguixvmError(
            f"{directory} is not a directory of mode 0700 that is yours",
            hint="Remove it, or set XDG_RUNTIME_DIR to a directory of your own.",
        )


def _connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _start(
    address: Address, command: Sequence[str], environment: Mapping[str, str]
) -> socket.socket:
    with (address.directory / f"{address.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Somebody else may have started it while we waited for the lock.
        running = _connect(address.socket)
        if running is not None:
            return running
        address.socket.unlink(missing_ok=True)
        log = address.directory / f"{address.name}.log"
        arguments = ("--socket", str(address.socket), "--log", str(log), "--idle", str(IDLE))
        detach([*command, *arguments], environment=environment, log=log, deadline=_START_DEADLINE)
        started = _connect(address.socket)
        if started is None:
            raise EvaluationError(
                "the evaluator ended as soon as it had started", hint=f"Its log: {log}"
            )
        return started


@contextmanager
def _fifo(directory: Path) -> Iterator[tuple[Path, int]]:
    """Make a FIFO in DIRECTORY; yield its name and a descriptor that reads from it."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="run-") as private:
        path = Path(private) / "stderr"
        os.mkfifo(path, 0o600)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)


def _receive(connection: socket.socket, output: int, forward: Callable[[bytes], None]) -> bytes:
    answer = b""
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    poller.register(output, select.POLLIN)
    while not answer.endswith(b"\n"):
        for descriptor, event in poller.poll():
            if descriptor == output:
                _drain(output, forward)
                if not event & select.POLLIN:
                    # The last writer is gone; a FIFO says so again and again.
                    poller.unregister(output)
            else:
                data = connection.recv(_CHUNK)
                if not data:
                    raise EvaluationError("the evaluator went away without an answer")
                answer += data
    _drain(output, forward)
    return answer


def _drain(output: int, forward: Callable[[bytes], None]) -> None:
    try:
        while data := os.read(output, _CHUNK):
            forward(data)
    except BlockingIOError:
        return
