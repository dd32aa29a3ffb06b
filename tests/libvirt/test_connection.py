# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching hypervisors, and saying why one cannot be reached."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import capabilities, connect, is_local
from pyguixvm.hypervisor.observe import observe


def test_the_argument_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    with connect("qemu:///system") as connection:
        assert connection.uri == "qemu:///system"
    with connect() as connection:
        assert connection.uri == "test:///default"


def test_capabilities_are_those_of_the_bed(connection):
    host = capabilities(connection)
    assert host.architecture == "x86_64"
    assert "qemu" in host.domain_types
    assert "dac" in host.security_models


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("qemu:///system", True),
        ("qemu:///session", True),
        ("qemu+unix:///system", True),
        ("test:///default", True),
        ("qemu+unix:///system?socket=/tmp/tunnel", False),
        ("qemu+ssh://root@host/system", False),
        ("qemu+ssh:///system", False),
        ("qemu+tls://host/system", False),
        ("qemu://host/system", False),
    ],
)
def test_only_a_uri_without_host_and_socket_is_this_machine(uri, local):
    assert is_local(uri) is local


@pytest.mark.parametrize(
    ("uri", "reason", "hint"),
    [
        ("qemu+unix:///system?socket=/nowhere", "No such file", "start libvirtd"),
        ("nonsense:///x", "nonsense", None),
        ("qemu+tcp://127.0.0.1:1/system", "refused", "start libvirtd"),
    ],
)
def test_a_hypervisor_that_cannot_be_reached_is_one_sentence(uri, reason, hint, capfd):
    with pytest.raises(HypervisorError, match=reason) as failure, connect(uri):
        pass
    assert failure.value.message.startswith(f"cannot connect to the hypervisor at {uri}: ")
    assert (failure.value.hint is None) if hint is None else (hint in failure.value.hint)
    # libvirt prints errors itself unless it is kept from it.
    assert capfd.readouterr() == ("", "")


def test_one_event_loop_serves_all_connections():
    with connect("qemu:///system"), connect("test:///default"):
        loops = [t for t in threading.enumerate() if t.name == "libvirt events"]
    assert len(loops) == 1


@pytest.fixture
def hang():
    """A function after which libvirtd answers nothing, until the test ends."""
    libvirtd = int(Path("/run/libvirtd.pid").read_text())
    yield lambda: os.kill(libvirtd, signal.SIGSTOP)
    os.kill(libvirtd, signal.SIGCONT)


def test_connecting_to_a_hypervisor_that_hangs_ends(hang):
    hang()
    begun = time.monotonic()
    with pytest.raises(HypervisorError, match="no answer within 1 s"), connect(seconds=1):
        pass
    assert time.monotonic() - begun < 10


def test_control_c_ends_connecting_to_a_hypervisor_that_hangs_at_once(hang):
    hang()
    begun = time.monotonic()
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt), connect():
        pass
    assert time.monotonic() - begun < 10


def test_requests_to_a_hypervisor_that_hangs_end(hang):
    with connect("qemu:///system") as connection:
        hang()
        with pytest.raises(HypervisorError, match="keepalive timeout"):
            observe(connection)
