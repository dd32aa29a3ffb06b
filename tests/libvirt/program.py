# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the tests' own, each in a process of its own, that import nothing anew.

usage: program.py SCRIPT DESCRIPTOR       (by itself)

To import pyguixvm takes a small program twice as long as all else that it does.  So one process
imports what SCRIPT does, once, and whenever it is asked to, by the socket that DESCRIPTOR is, it
forks: there SCRIPT's `main` runs, with arguments, environment, and streams of its own.
"""

import atexit
import functools
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

_LARGEST = 128 * 1024


class _Request(msgspec.Struct):
    arguments: list[str]
    environment: dict[str, str]
    directory: str


class Program:
    """The process of a SCRIPT that got ARGUMENTS; as `subprocess.Popen` is, with pipes.

    What it writes to standard error can be read when it has ended.
    """

    def __init__(self, script, *arguments, **environment):
        self.args = [str(script), *map(str, arguments)]
        self.returncode = None
        self._open = ExitStack()
        there, self.stdin = map(self._open.enter_context, _pipe("rb", "w"))
        self.stdout, here = map(self._open.enter_context, _pipe("r", "wb"))
        self._errors = self._open.enter_context(os.fdopen(os.memfd_create("errors"), "w+"))
        request = _Request(self.args, os.environ | environment, str(Path.cwd()))
        self._line, end = map(self._open.enter_context, _line())
        with there, here, end:
            descriptors = [each.fileno() for each in (there, here, self._errors, end)]
            socket.send_fds(_asking(script), [msgspec.json.encode(request)], descriptors)
        pid, (self._process,), *_ = socket.recv_fds(self._line, _LARGEST, 1)
        self._open.callback(os.close, self._process)
        self.pid = int(pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.wait()
        self._open.close()

    def poll(self):
        """Return its exit status, if it has ended."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self.returncode = int(self._line.recv(_LARGEST))
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            select.select([self._line], [], [], timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """Wait for its end; return what it wrote."""
        self.stdin.close()
        self.wait(timeout)
        self._errors.seek(0)
        return self.stdout.read(), self._errors.read()

    def send_signal(self, number):
        if self.poll() is None:
            signal.pidfd_send_signal(self._process, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def ran(script, *arguments, **environment):
    """Return how SCRIPT ended that ran with ARGUMENTS."""
    with Program(script, *arguments, **environment) as process:
        output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _pipe(*modes):
    """Return the end of a pipe to read from, and that to write to, opened in MODES."""
    return map(os.fdopen, os.pipe(), modes)


def _line():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@functools.cache
def _asking(script):
    """Return what a process that has imported SCRIPT is asked by."""
    here, there = _line()
    with there:
        process = subprocess.Popen(
            [sys.executable, __file__, script, str(there.fileno())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[there.fileno()],
        )  # fmt: skip

    @atexit.register
    def end():
        here.close()
        process.wait(timeout=30)

    return here


def _serve(script, asked):
    """Return `main` of SCRIPT, in a new process for each who asked; end when nobody can."""
    main = importlib.import_module(Path(script).stem).main
    # What is there already is looked at by no collector, and so not copied by a fork.
    gc.freeze()
    kept = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGCHLD)
    }
    while True:
        request, descriptors, *_ = socket.recv_fds(asked, _LARGEST, 4)
        if not request:
            sys.exit()
        if not os.fork():
            break
        for each in descriptors:
            os.close(each)
    asked.close()
    *streams, answer = descriptors
    signal.signal(signal.SIGCHLD, kept[signal.SIGCHLD])
    child = os.fork()
    if child:
        _tell_of(child, streams, socket.socket(fileno=answer))
    signal.signal(signal.SIGINT, kept[signal.SIGINT])
    os.close(answer)
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    begun_as = msgspec.json.decode(request, type=_Request)
    sys.argv = begun_as.arguments
    os.environ.clear()
    os.environ.update(begun_as.environment)
    os.chdir(begun_as.directory)
    return main


def _tell_of(child, streams, answer):
    """Tell by ANSWER what process CHILD is, and how it ended, and end as well."""
    for each in streams:
        os.close(each)
    socket.send_fds(answer, [str(child).encode()], [os.pidfd_open(child)])
    _, status = os.waitpid(child, 0)
    with suppress(BrokenPipeError):  # nobody waits any more
        answer.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))()
