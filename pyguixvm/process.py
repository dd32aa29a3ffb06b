# SPDX-License-Identifier: GPL-3.0-or-later
"""Running other programs to their ends; `daemon` is for those that stay.

Commands are lists of arguments, never shell text, and are checked unless the
caller says otherwise.  Each runs in a process group of its own, so that
ending it ends what it started too.

The runner is subprocess alone.  The package sh would read better in places, but it
forks in Python, which in a process with threads (libvirt's event loop is one) may
stand still for ever between fork and exec; and it takes a tenth of a second to load.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

import msgspec

from pyguixvm.errors import PyguixvmError
from pyguixvm.interruption import LOOK_SECONDS, followed_here

if TYPE_CHECKING:
    import subprocess
    from threading import Event

    from pyguixvm.confinement import Confinement


# What users other than root do not have in PATH on most distributions, and
# where sfdisk, e2fsck and resize2fs are.
_SYSTEM_DIRECTORIES = ("/run/current-system/profile/sbin", "/usr/local/sbin", "/usr/sbin", "/sbin")


# Seconds that a program has between SIGTERM and SIGKILL.
GRACE = 10.0


_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


_SHOWN_LINES = 20


class Completed(msgspec.Struct, frozen=True):
    """A command that ended; STATUS is negative when a signal ended it."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the newline at its end."""
        return self.stdout.decode(errors="replace").rstrip("\n")


class MissingProgramError(PyguixvmError):
    """A program that is needed is not installed."""


class CommandFailedError(PyguixvmError):
    """A command ended with another status than 0; ARGV, STATUS and STDERR say more."""

    def __init__(self, completed: Completed, *, hint: str | None = None) -> None:
        """Describe COMPLETED such that the command can be pasted into a shell."""
        self.argv = completed.argv
        self.exit_status = completed.status
        self.stderr = completed.stderr.decode(errors="replace")
        message = f"this command {describe_status(completed.status)}:\n  {shlex.join(self.argv)}"
        lines = self.stderr.rstrip().splitlines()[-_SHOWN_LINES:]
        super().__init__("\n  ".join([message, *lines]), hint=hint)


class CommandTimeoutError(PyguixvmError):
    """A command did not end in time and was ended."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        """Describe ARGV, which ran for SECONDS."""
        super().__init__(f"this command did not end in {seconds:g} s:\n  {shlex.join(argv)}")


def describe_status(status: int) -> str:
    """Say in words how a process ended, from STATUS as in `Completed`.

    >>> describe_status(-9)
    'was ended by SIGKILL'
    """
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    if status == _NOT_FOUND:
        return "failed with status 127 (it, or a program that it needs, was not found)"
    if status == _NOT_EXECUTABLE:
        return "failed with status 126 (it, or a program that it needs, cannot be executed)"
    return f"failed with status {status}"


def which(program: str, package_hint: str | None = None) -> Path:
    """Return the file name of PROGRAM.

    PACKAGE_HINT says what to install.  Raises MissingProgramError.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES])
    found = shutil.which(program, path=path)
    if found is None:
        raise MissingProgramError(f"the program '{program}' was not found", hint=package_hint)
    return Path(found)


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    most: int | None = None,
    on_error_line: Callable[[str], None] | None = None,
    check: bool = True,
    confined: Confinement | None = None,
) -> Completed:
    """Run ARGV to its end and return what it wrote, unless that goes to STDOUT.

    It reads STDIN, which may be a file, or nothing.  ENVIRONMENT replaces this process's own.
    TIMEOUT is in seconds.  MOST is how many bytes it can write to standard output, and how many
    of standard error are kept, the last ones; of a line longer than that, the parts are lines.
    CONFINED is all that it may use, if it is to be bound to that.
    ON_ERROR_LINE gets each line of standard error, without its newline, as it
    is written.  Raises CommandFailedError (if CHECK), CommandTimeoutError and
    MissingProgramError.  When interrupted, the command's whole process group
    is ended before the exception goes on.
    """
    with _file(stdin or b"") as source, _file(stdout or b"", most) as output:
        child = None
        try:
            with interrupts_deferred():
                child = _started(
                    argv,
                    source,
                    output,
                    directory=directory,
                    environment=environment,
                    confined=confined,
                )
            with _ended_after(timeout, child) as late, _ended_if_asked(child):
                stderr = _taken(child, on_error_line, most)
                status = child.wait()
        except BaseException:
            if child is not None:
                _end_group(child)
            raise
        if late.is_set():
            raise CommandTimeoutError(argv, timeout or 0)
        # A file with a limit is as long as that; the program wrote by the same offset.
        written = b""
        if stdout is None:
            length = -1 if most is None else os.lseek(output.fileno(), 0, os.SEEK_CUR)
            output.seek(0)
            written = output.read(length)
        completed = Completed(tuple(argv), status, written, stderr)
    if check and status != 0:
        raise CommandFailedError(completed)
    return completed


def _file(given: bytes | IO[bytes], most: int | None = None) -> AbstractContextManager[IO[bytes]]:
    return _in_memory(given, most) if isinstance(given, bytes) else nullcontext(given)


def _in_memory(content: bytes = b"", most: int | None = None) -> IO[bytes]:
    """Return a file with CONTENT: unlike a pipe, it is never waited for.

    Nothing can be written beyond MOST bytes of it.
    """
    number = os.memfd_create("pyguixvm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    file = os.fdopen(number, "w+b")
    file.write(content)
    file.seek(0)
    if most is not None:
        file.truncate(most)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return file


def _started(
    argv: Sequence[str],
    stdin: IO[bytes],
    stdout: IO[bytes],
    *,
    directory: Path | None,
    environment: Mapping[str, str] | None,
    confined: Confinement | None,
) -> subprocess.Popen[bytes]:
    # Whoever asks for help runs no command: loaded by those who do.
    import subprocess

    program = which(argv[0])

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(program), *argv[1:]],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=directory,
            env=None if environment is None else dict(environment),
            process_group=0,
        )

    if confined is None:
        return start()
    from pyguixvm import confinement

    with confinement.started(confined, program, start) as child:
        confinement.bound(child.pid)
    return child


def _taken(
    child: subprocess.Popen[bytes], tell: Callable[[str], None] | None, most: int | None
) -> bytes:
    """Return what CHILD writes to its standard error; TELL each line as soon as it is whole.

    The last MOST bytes are returned, and a longer line is told in parts.
    """
    assert child.stderr is not None  # noqa: S101 -- asked for when it was started
    taken = bytearray()
    with child.stderr as stream:
        while line := stream.readline(-1 if most is None else most):
            taken += line
            if most is not None and len(taken) > 2 * most:
                del taken[:-most]
            if tell is not None:
                tell(line.decode(errors="replace").rstrip("\n"))
    return bytes(taken if most is None else taken[-most:])


@contextmanager
def _ended_after(seconds: float | None, child: subprocess.Popen[bytes]) -> Iterator[Event]:
    """End the group of CHILD if the body takes longer than SECONDS; say so by the event."""
    import threading

    late = threading.Event()

    def end() -> None:
        late.set()
        _end_group(child)

    timer = None if seconds is None else threading.Timer(seconds, end)
    try:
        if timer is not None:
            # One that has half started could not be waited for.
            with interrupts_deferred():
                timer.start()
        yield late
    finally:
        if timer is not None and timer.ident is not None:
            timer.cancel()
            timer.join()


@contextmanager
def _ended_if_asked(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the group of CHILD, and raise KeyboardInterrupt, if this thread's work is to end.

    In the main thread a signal does that.
    """
    import threading

    interruption, thread = followed_here(), threading.get_ident()
    if interruption is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if interruption.is_due(thread):
                _end_group(child)
                return

    watching = threading.Thread(target=watch, name="command", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
    interruption.check()


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let signals wait until the body is done.

    A program that has started, but whose number is not known yet, could not be ended.
    """
    import threading

    if threading.current_thread() is not threading.main_thread():
        # Python runs handlers in the main thread only.
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []
    handlers = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(number))
    }
    # The program gets the default handlers, as after any exec.
    for number in handlers:
        signal.signal(number, lambda *arguments: arrived.append(arguments))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for arrival, frame in arrived:
        handlers[signal.Signals(arrival)](arrival, frame)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End the process group of CHILD: politely first, then for certain."""
    import subprocess

    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
            return
