# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisors and machines are known by what they are, not by what they are called."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.commands import generations, listing, power, rollback, undefine
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.commands.status import applied_statuses
from pyguixvm.errors import BuildError, RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import connect, identity
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import DataDisk
from pyguixvm.plan.plan import Policy
from pyguixvm.plan.planner import plan

SYSTEM = "qemu:///system"
# The same libvirtd; a socket of unknown origin counts as another machine's.
ELSEWHERE = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"
ALIAS = "far"
MIB = 1024**2
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


# --- machines ---------------------------------------------------------------


def virsh(*arguments):
    subprocess.run(["virsh", "--quiet", "-c", SYSTEM, *arguments], check=True)


def no_guix():
    raise BuildError("there is no guix here")


@pytest.fixture
def clone(connection):
    """Have virt-clone copy a machine; the copy goes at the end."""
    made = []

    def copy(name):
        copied = f"{name}-clone"
        subprocess.run(
            ["virt-clone", "-q", "--connect", SYSTEM, "-o", name, "-n", copied, "--auto-clone"],
            check=True,
        )
        made.append(copied)
        return copied

    yield copy
    with connect(SYSTEM) as last:
        for name in made:
            last.handle.lookupByName(name).undefine()


FORCED = Policy(force=True, unprotect=True)
CHANGES = {
    "start": lambda here, name: power.start(here, [name]),
    "shutdown": lambda here, name: power.shutdown(here, [name], 1),
    "reboot": lambda here, name: power.reboot(here, [name], 1),
    "destroy": lambda here, name: power.destroy(here, [name], unprotect=True),
    "autostart": lambda here, name: power.autostart(here, [name], on=True),
    "rollback": lambda here, name: rollback.roll_back(here, name, None, FORCED),
    "undefine": lambda here, name: undefine.removals(
        here, [name], keep_volumes=False, delete_data=True, unprotect=True
    ),
    "generations": lambda here, name: generations.generations(here, [name]),
}


def refusals(name):
    """Return with which message and hint each verb refuses to deal with NAME."""
    said = set()
    for verb in CHANGES.values():
        with pytest.raises(RequestRefusedError) as refusal:
            verb(session(SYSTEM), name)
        said.add((refusal.value.message, refusal.value.hint))
    return said


def test_a_copy_of_a_machine_is_somebody_elses(connection, deployed, clone, pool):
    for machine in (deployed(), deployed(by_uuid=False)):
        copied = clone(machine.name)
        before = domains.inactive_xml(connection, copied)
        ((message, hint),) = refusals(copied)
        assert f"'{copied}' is a copy of machine '{machine.name}'" in message
        assert f"virsh metadata --remove --config {copied} urn:pyguixvm:metadata:1" in hint
        assert domains.inactive_xml(connection, copied) == before
        # It is shown as what it is, and the machine is what it was.
        listed = {each.name: each for each in listing.listed(session(SYSTEM), everything=False)}
        assert "is a copy of machine" in listed[copied].label
        assert listed[copied].generation is None
        (status,) = applied_statuses(session(SYSTEM), [copied])
        assert (status.status, status.detail) == ("not ours", message)
        bare = msgspec.structs.replace(machine.domain, networking=())
        namesake = msgspec.structs.replace(machine, name=copied, domain=bare)
        (refused,) = plan([namesake], observe(connection)).machines
        assert message in refused.refusal
        assert observe(connection).domains[machine.name].metadata is not None
        (removal,) = undefine.removals(session(SYSTEM), [machine.name], keep_volumes=False)
        undefine.undefine(session(SYSTEM), [removal])
        assert not domains.exists(connection, machine.name)
        assert domains.exists(connection, copied)
        (copys_own,) = domains.disks(connection, copied)
        assert Path(copys_own).exists()


def test_what_virsh_is_said_to_do_about_a_copy_helps(connection, deployed, clone):
    copied = clone(deployed().name)
    ((_, hint),) = refusals(copied)
    subprocess.run(hint.split("'")[1], shell=True, check=True, env={**os.environ, **DEFAULT})
    assert observe(connection).domains[copied].unreadable is None
    with pytest.raises(RequestRefusedError, match="not made by pyguixvm"):
        domains.start(connection, copied)


DEFAULT = {"LIBVIRT_DEFAULT_URI": SYSTEM}


@pytest.mark.parametrize("by_uuid", [True, False])
def test_a_machine_that_was_renamed_is_left_alone(connection, deployed, by_uuid):
    machine = deployed(
        by_uuid=by_uuid,
        networking=(),
        disks=(DataDisk(name="db", size=MIB, file_system="ext4", target=None),),
    )
    other = f"{machine.name}-other"
    virsh("domrename", machine.name, other)
    ((message, hint),) = refusals(other)
    assert f"'{other}' was renamed from '{machine.name}'" in message
    # Made anew, it would get the same disks.
    (made_anew,) = plan([machine], observe(connection)).machines
    assert message in made_anew.refusal
    assert made_anew.actions == ()
    assert made_anew.hint == hint
    subprocess.run(hint.split("'")[1], shell=True, check=True, env={**os.environ, **DEFAULT})
    assert observe(connection).domains[machine.name].metadata is not None


def test_a_definition_that_came_back_with_another_uuid_can_be_mended(
    connection, deployed, tmp_path
):
    machine = deployed()
    xml = domains.inactive_xml(connection, machine.name)
    (uuid,) = re.findall("<uuid>(.*)</uuid>", xml)
    handle = connection.handle.lookupByName(machine.name)
    handle.undefine()
    handle = connection.handle.defineXML(xml.replace(f"<uuid>{uuid}</uuid>", ""))
    ((message, hint),) = refusals(machine.name)
    assert f"'{machine.name}' is a copy of machine '{machine.name}'" in message
    assert f"define its XML with the UUID {uuid}" in hint
    handle.undefine()
    connection.handle.defineXML(xml)
    assert domains.read_metadata(connection, machine.name).uuid == uuid


def changed_title(connection, machine):
    """Have MACHINE, which is paused, get another title."""
    titled = msgspec.structs.replace(
        machine, domain=msgspec.structs.replace(machine.domain, title="changed")
    )
    made = plan([titled], observe(connection), policy=Policy(restart=False))
    store = Store(no_guix, ignore)
    environment = {"PYGUIXVM_VIRT_TYPE": "qemu"}
    (outcome,) = apply(made, Workshop(connection, ignore, environment, store))
    assert outcome.error is None


@pytest.mark.parametrize("by_uuid", [True, False])
def test_the_next_definition_remembers_the_uuid_and_keeps_it(connection, deployed, by_uuid):
    machine = deployed(by_uuid=by_uuid)
    uuid = connection.handle.lookupByName(machine.name).UUIDString()
    domains.start_paused(connection, machine.name)
    changed_title(connection, machine)
    assert domains.read_metadata(connection, machine.name).uuid == uuid
    assert connection.handle.lookupByName(machine.name).UUIDString() == uuid
