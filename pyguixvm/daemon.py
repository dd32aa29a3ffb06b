# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that stay: for the duration of some work, or beyond it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from pyguixvm.process import (
    GRACE,
    CommandFailedError,
    CommandTimeoutError,
    Completed,
    interrupts_deferred,
    which,
)

if TYPE_CHECKING:
    import subprocess

    from pyguixvm.confinement import Confinement

_POLL = 0.005


@contextmanager
def serving(
    argv: Sequence[str],
    *,
    ready: Callable[[], bool],
    deadline: float = 10.0,
    check: bool = True,
    confined: Confinement | None = None,
) -> Iterator[int]:
    """Run the daemon ARGV for the duration of the body, which gets its process id.

    The body starts when READY returns true, at most DEADLINE seconds later;
    afterwards the daemon is ended and is gone when this returns.  CONFINED is all that it may
    use, if it is to be bound to that.  Raises
    CommandFailedError if it ends by itself too early, or (if CHECK) with another
    status than 0 when it is asked to; CommandTimeoutError if it does not get ready.
    """
    import subprocess
    import tempfile

    program = which(argv[0])
    with tempfile.TemporaryFile() as stderr, ExitStack() as started:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*_tied_to_us(), str(program), *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

        daemon = None
        try:
            with interrupts_deferred():
                if confined is None:
                    daemon = start()
                else:
                    from pyguixvm import confinement

                    daemon = started.enter_context(confinement.started(confined, program, start))
                    confinement.bound(daemon.pid)
            _await(daemon, argv, stderr, ready, deadline)
            yield daemon.pid
        finally:
            if daemon is not None:
                _end(daemon)
        if check and daemon.returncode != 0:
            raise _failed(argv, daemon.returncode, stderr)


def _tied_to_us() -> list[str]:
    """Return the prefix by which a daemon ends even if we are killed, where there is one."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _await(
    daemon: subprocess.Popen[bytes],
    argv: Sequence[str],
    stderr: IO[bytes],
    ready: Callable[[], bool],
    deadline: float,
) -> None:
    """Return once READY does, or raise."""
    limit = time.monotonic() + deadline
    while True:
        status = daemon.poll()
        if status is not None:
            raise _failed(argv, status, stderr)
        if ready():
            return
        if time.monotonic() > limit:
            raise CommandTimeoutError(argv, deadline)
        time.sleep(_POLL)


def _failed(argv: Sequence[str], status: int, stderr: IO[bytes]) -> CommandFailedError:
    stderr.seek(0)
    return CommandFailedError(Completed(tuple(argv), status, b"", stderr.read()))


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """End DAEMON and wait until it is gone."""
    import subprocess

    daemon.terminate()
    try:
        daemon.wait(GRACE)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def detach(
    argv: Sequence[str], *, environment: Mapping[str, str], log: Path, deadline: float
) -> None:
    """Start the server ARGV, which outlives this process, and return when it says "ready".

    That is the first line on its standard output; its standard error goes to
    the file LOG.  Raises CommandFailedError or CommandTimeoutError, after
    DEADLINE seconds, and leaves no process then.
    """
    import select
    import subprocess

    with log.open("ab") as stderr:
        server = subprocess.Popen(
            [str(which(argv[0])), *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env=dict(environment),
            cwd="/",
        )
    assert server.stdout is not None  # noqa: S101 -- asked for just above
    try:
        said = b""
        limit = time.monotonic() + deadline
        while b"\n" not in said:
            readable, _, _ = select.select([server.stdout], [], [], limit - time.monotonic())
            if not readable:
                raise CommandTimeoutError(argv, deadline)  # noqa: TRY301
            data = os.read(server.stdout.fileno(), 4096)
            if not data:
                _raise_ended(server, argv, log)
            said += data
        if not said.startswith(b"ready"):
            server.kill()
            _raise_ended(server, argv, log)
    except BaseException:
        _end(server)
        raise
    finally:
        server.stdout.close()
    # Popen warns about children that outlive it; this one is meant to.
    server.returncode = 0


def _raise_ended(server: subprocess.Popen[bytes], argv: Sequence[str], log: Path) -> NoReturn:
    """Raise the error for SERVER, which ended instead of getting ready."""
    status = server.wait()
    raise CommandFailedError(Completed(tuple(argv), status, b"", log.read_bytes()[-4096:]))
