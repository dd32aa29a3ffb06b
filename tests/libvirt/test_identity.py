# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisors and machines are known by what they are, not by what they are called."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from pyguixvm.events import ignore
from pyguixvm.hypervisor.connection import connect, identity
from pyguixvm.pipeline import Session, observed

SYSTEM = "qemu:///system"
# The same libvirtd; a socket of unknown origin counts as another machine's.
ELSEWHERE = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"
ALIAS = "far"
CLIENT_SETTINGS = Path("/etc/libvirt/libvirt.conf")


def session(uri=None):
    return Session(uri, (), {}, ignore, lambda _: None)


@pytest.fixture
def alias():
    """A name of the user's for the way ELSEWHERE."""
    CLIENT_SETTINGS.write_text(f'uri_aliases = [ "{ALIAS}={ELSEWHERE}" ]\n')
    yield ALIAS
    CLIENT_SETTINGS.unlink()


# --- hypervisors ------------------------------------------------------------


def which(uri):
    with connect(uri) as opened:
        return identity(opened)


def test_a_hypervisor_is_the_same_by_whatever_uri(alias):
    ways = {which(uri) for uri in (SYSTEM, ELSEWHERE, alias, "qemu+unix:///system", None)}
    assert len(ways) == 1
    (one,) = ways
    assert one.host_uuid
    assert (one.driver, one.instance, one.owner) == ("QEMU", "/system", None)


def test_a_driver_without_a_uuid_is_known_too():
    ours = which("test:///default")
    assert (ours.host_uuid, ours.driver, ours.instance) == (None, "TEST", "/default")
    assert ours == which("test:///default")
    assert ours != which(SYSTEM)


def test_the_session_of_root_is_the_system():
    # Libvirt's driver that runs as root takes both for itself.
    assert which("qemu:///session") == which(SYSTEM)


@pytest.fixture
def session_of_nobody():
    """The socket of a libvirtd that the user nobody runs."""
    directory = Path(tempfile.mkdtemp(prefix="session-", dir="/tmp"))
    shutil.chown(directory, "nobody")
    daemon = subprocess.Popen(
        ["setpriv", "--reuid", "nobody", "--clear-groups", "libvirtd"],
        env={**os.environ, "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)},
        stderr=subprocess.DEVNULL,
    )
    socket = directory / "libvirt" / "libvirt-sock"
    deadline = time.monotonic() + 30
    while not socket.exists():
        assert time.monotonic() < deadline, "libvirtd does not listen"
        time.sleep(0.05)
    yield socket
    daemon.terminate()
    daemon.wait(timeout=30)
    shutil.rmtree(directory)


def test_the_session_of_a_user_is_another_hypervisor(session_of_nobody):
    theirs = which(f"qemu+unix:///session?socket={session_of_nobody}")
    assert (theirs.driver, theirs.instance, theirs.owner) == ("QEMU", "/session", "nobody")
    assert theirs != which(SYSTEM)


def test_an_alias_is_resolved_before_it_counts_as_this_machine(alias):
    with connect(alias) as opened:
        assert (opened.uri, opened.local) == (ELSEWHERE, False)


@pytest.mark.parametrize("first", [ELSEWHERE, None])
def test_two_ways_to_one_hypervisor_are_one_plan(defined, a_machine, first):
    here, there = a_machine(), a_machine()
    for machine in (here, there):
        defined(machine)
    far = msgspec.structs.replace(there, hypervisor=first or ELSEWHERE)
    machines = [far, here] if first else [here, far]
    with observed(session(SYSTEM), machines) as planned:
        (only,) = planned
        assert [each.machine for each in only.plan.machines] == machines
        # Overlays can stand on the store of this machine.
        assert only.connection.local
        assert (only.plan.uri, only.observation.uri) == (SYSTEM, SYSTEM)


def test_two_hypervisors_are_two_plans(a_machine):
    here, there = a_machine(), msgspec.structs.replace(a_machine(), hypervisor="test:///default")
    with observed(session(SYSTEM), [here, there]) as planned:
        assert [each.plan.uri for each in planned] == [SYSTEM, "test:///default"]


def test_one_address_on_one_hypervisor_by_two_ways_is_refused(a_machine):
    here = a_machine()
    other = msgspec.structs.replace(a_machine(), domain=here.domain, hypervisor=ELSEWHERE)
    with observed(session(SYSTEM), [here, other]) as planned:
        first, second = planned[0].plan.machines
    assert first.refusal is None
    assert f"is that of '{here.name}', too" in second.refusal
