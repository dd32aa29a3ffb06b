# SPDX-License-Identifier: GPL-3.0-or-later
"""Which daemon is looked at, with listeners of the test's own."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyguixvm.hypervisor import same_files
from pyguixvm.hypervisor.same_files import sees_our_files

URI = "qemu:///system"


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sockets are: with a name short enough for them, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="run-") as made:
        monkeypatch.setattr(same_files, "_DIRECTORY", Path(made))
        yield Path(made)


def listening(directory: Path, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / name))
    listener.listen()
    listener.setblocking(False)
    return listener


def connections(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize("both", [True, False])
def test_only_the_daemon_in_use_is_asked_and_only_once(directory: Path, both: bool) -> None:
    with ExitStack() as open_ones:
        old = open_ones.enter_context(listening(directory, "libvirt-sock"))
        new = open_ones.enter_context(listening(directory, "virtqemud-sock")) if both else None
        assert all(sees_our_files(URI) for _ in range(3))
        assert connections(old) == (0 if both else 1)
        assert new is None or connections(new) == 1


def test_one_that_is_not_there_yet_is_asked_later(directory: Path) -> None:
    assert sees_our_files(URI)
    with listening(directory, "libvirt-sock") as listener:
        assert sees_our_files(URI)
        assert connections(listener) == 1


def test_a_users_own_is_not_asked(directory: Path) -> None:
    with listening(directory, "libvirt-sock") as listener:
        assert sees_our_files("qemu:///session")
        assert connections(listener) == 0
