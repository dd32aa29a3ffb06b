# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching hypervisors, and saying why one cannot be reached."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import libvirt
import pytest
from another import another_libvirtd

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.bounded import bounded, call, close
from pyguixvm.hypervisor.connection import capabilities, connect
from pyguixvm.hypervisor.machine_lock.lock import holders
from pyguixvm.hypervisor.observe import observe
from pyguixvm.hypervisor.uri import is_local


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
        ("qemu+tcp://127.0.0.1:1/system", "refused", "libvirtd listens there"),
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


def test_each_request_to_a_hypervisor_that_hangs_ends(deployed, hang):
    machine = deployed()
    with connect("qemu:///system", patience=1) as impatient:
        volume = volumes.list_ours(impatient, machine.domain.pool)[0]
        domain = domains.our_domain(impatient, machine.name)
        hang()
        for doing, request in (
            ("list the domains", lambda: observe(impatient)),
            ("find machine", lambda: domains.state(impatient, machine.name)),
            ("look for volume", lambda: volumes.lookup(impatient, volume.pool, volume.name)),
            ("see who changes", lambda: holders(impatient)),
            ("XMLDesc", lambda: domain.XMLDesc(0)),
        ):
            begun = time.monotonic()
            with pytest.raises(HypervisorError, match=f"cannot {doing}.* within 1 s") as failure:
                request()
            assert "libvirtd may hang" in failure.value.hint
            assert time.monotonic() - begun < 5
        # What may take long, too, since nothing else is answered.
        begun = time.monotonic()
        with pytest.raises(HypervisorError, match="no answer within 1 s"):
            domain.create()
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("waiting", [False, True])
def test_what_is_left_of_a_connection_to_one_that_hangs_holds_nobody_up(pool, hang, waiting):
    """Its last object closes it, which waits for an answer; the collector may come upon that."""
    with connect("qemu:///system", patience=1) as opened:
        held = [opened.handle.storagePoolLookupByName(pool.name)]
        held.append(held)
        if waiting:
            hang()
            with pytest.raises(HypervisorError, match="no answer"):
                opened.handle.listAllDomains()
    hang()
    del held, opened
    collecting = threading.Thread(target=gc.collect, daemon=True)
    collecting.start()
    collecting.join(10)
    assert not collecting.is_alive()


def test_control_c_ends_a_request_to_a_hypervisor_that_hangs(hang):
    with connect("qemu:///system") as connection:
        hang()
        begun = time.monotonic()
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            observe(connection)
        assert time.monotonic() - begun < 5


def test_control_c_lets_a_request_end_that_is_answered_soon(connection, tiny_machine):
    """Whoever cleans up after an interruption is to see what the request did."""
    machine = tiny_machine("nothing")
    domain = connection.handle.lookupByName(machine.name)
    for _ in range(5):
        threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGINT]).start()
        with suppress(KeyboardInterrupt):
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
            threading.Event().wait(60)
        assert domain.isActive()
        domain.destroy()


# Connect as whoever has no other name for it, and say whether it counts as this machine.
_LOOK = """
from pyguixvm.hypervisor.connection import connect
with connect("qemu:///system") as opened:
    print(opened.local)
"""


def looked_from(*namespaces, change="true"):
    """Return what _LOOK prints from NAMESPACES of its own, after CHANGE there."""
    inside = [sys.executable, "-c", _LOOK]
    done = subprocess.run(
        ["unshare", "--mount", *namespaces, "sh", "-c", f'{change} && exec "$@"', "sh", *inside],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_connection_that_another_ones_request_uses_is_open_until_that_ends():
    """Libvirt would free it, and crash: a guest moves by a request to where it is."""
    begun, closed, said = threading.Event(), threading.Event(), []

    def both(here, there):
        begun.set()
        closed.wait(60)
        said.extend((here.getHostname(), there.getHostname()))

    with connect("test:///default") as here:
        with connect("test:///default") as there:
            request = threading.Thread(target=call, args=(both, here.handle, there.handle))
            request.start()
            begun.wait(60)
        closed.set()
        request.join(60)
    assert len(said) == 2
    # And none that was closed before is used.
    with connect("test:///default") as here, connect("test:///default") as there:
        gone = there.handle
        close(gone)
        with pytest.raises(HypervisorError, match="closed meanwhile"):
            call(both, here.handle, gone)


def test_after_a_cut_what_another_one_has_is_not_looked_for_there(tmp_path):
    node = tmp_path / "node.xml"
    node.write_text("<node/>")
    here, there = (libvirt.open(f"test://{path}") for path in ("/default", node))
    first = bounded(here, 10, partial(libvirt.open, "test:///default"))
    second = bounded(there, 10)
    here.close()
    uris = call(lambda *both: [each.getURI() for each in both], first, second)
    assert uris == ["test:///default", f"test://{node}"]
    for each in (first, second):
        close(each)


def test_what_sees_other_files_counts_as_another_machine(connection, tmp_path_factory):
    """As where a container got the host's socket: what stands on our files would not start."""
    assert connection.local
    assert looked_from() == "True"
    with another_libvirtd(tmp_path_factory.mktemp("another")) as other:
        assert looked_from(change=f"mount --bind {other.directory}/run /run/libvirt") == "False"
    assert looked_from("--pid", "--fork", "--mount-proc") == "False"
    assert looked_from(change="mkdir -p /gnu/store && mount -t tmpfs none /gnu/store") == "False"
