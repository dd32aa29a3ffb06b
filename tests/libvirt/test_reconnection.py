# SPDX-License-Identifier: GPL-3.0-or-later
"""A line that is cut between two requests is opened again, and the command goes on.

Each row of the table is a moment at which it is cut; what the command was to bring about is so
at the end, once, and nothing of it is left over.
"""

import os
import signal
import subprocess
import time
from contextlib import ExitStack

import libvirt
import msgspec
import pytest
from another import another_libvirtd
from boot_sector import halting
from deploying import changed, deploy, renewed, take_away, with_image
from relay import relayed
from sshd import sshd

from pyguixvm.errors import HypervisorError, LostLockError
from pyguixvm.events import PhaseFinished, PhaseStarted
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.connection import connect, identity
from pyguixvm.hypervisor.console import record
from pyguixvm.hypervisor.happenings import ends, happenings
from pyguixvm.hypervisor.incomplete_volume import incomplete_until_done
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import ConsoleReady
from pyguixvm.model.volume_names import is_marker
from pyguixvm.xml.volume import VolumeDefinition

LIBVIRTD = "/run/libvirt/libvirt-sock"


class Line:
    """A line that can be cut, and is there again at once."""

    def __init__(self, socket, opened):
        self._socket, self._opened = socket, opened
        self.cuts = 0
        self._relay = opened.enter_context(relayed(socket, later=0, rate=0))
        self.uri = self._relay.uri

    def cut(self, target=LIBVIRTD):
        """Cut it; from now on it leads to the socket TARGET."""
        self.lose()
        again = relayed(self._socket, str(target), later=0, rate=0)
        self._relay = self._opened.enter_context(again)

    def traffic(self):
        """Return what was passed on since it is there again."""
        return self._relay.traffic()

    def lose(self):
        self._relay.cut()
        self._socket.unlink(missing_ok=True)
        self.cuts += 1


@pytest.fixture
def far(tmp_path):
    with ExitStack() as opened:
        yield Line(tmp_path / "line", opened)


@pytest.fixture
def machine(connection, a_machine, pool, tmp_path):
    image = tmp_path / "image.raw"
    image.write_bytes(halting())
    made = with_image(a_machine(ready=(ConsoleReady("up"),), pool=pool.name), image)
    yield made
    take_away(made.name)


def cutting(line, moment):
    """Cut LINE at each event that is MOMENT, which is a kind and a phase."""

    def emit(event):
        if isinstance(event, moment[0]) and event.phase == moment[1]:
            line.cut()

    return emit


# Its word may be lost with the line, and is waited for then (seconds).
IN_VAIN = 5

FIRST = [
    (kind, phase)
    for kind in (PhaseStarted, PhaseFinished)
    for phase in ("transfer", "define", "start", "ready")
]


@pytest.mark.parametrize("moment", FIRST, ids=lambda m: f"{m[0].__name__}-{m[1]}")
def test_a_first_deployment_goes_on(connection, far, machine, pool, moment):
    if moment in {(PhaseFinished, "start"), (PhaseStarted, "ready")}:
        machine = msgspec.structs.replace(machine, ready_timeout=IN_VAIN)
    with connect(far.uri) as there:
        error = deploy(there, machine, cutting(far, moment))
    assert error is None, error.message
    assert far.cuts
    assert domains.state(connection, machine.name) == "running"
    assert domains.read_metadata(connection, machine.name).current == 1
    assert not any(map(is_marker, volumes.names(connection, pool.name)))


CHANGE = [(PhaseStarted, p) for p in ("transfer", "stop", "define", "start", "ready")]


@pytest.mark.parametrize("moment", CHANGE, ids=lambda m: m[1])
def test_a_change_goes_on(connection, far, machine, pool, tmp_path, moment):
    assert deploy(connection, machine) is None
    machine = changed(renewed(machine, tmp_path), cpu=2, maximum_cpu=2)
    if moment == (PhaseStarted, "ready"):
        machine = msgspec.structs.replace(machine, ready_timeout=IN_VAIN)
    with connect(far.uri) as there:
        error = deploy(there, machine, cutting(far, moment), force=True, stop_timeout=1)
    assert error is None, error.message
    assert far.cuts
    assert domains.state(connection, machine.name) == "running"
    assert domains.read_metadata(connection, machine.name).current == 2
    assert not any(map(is_marker, volumes.names(connection, pool.name)))


def test_a_lock_is_held_over_a_cut(connection, far, machine):
    with connect(far.uri) as there, held(there, (machine.name,), print, "test") as lock:
        for _ in range(3):
            far.cut()
            lock.require(machine.name)
    with held(connection, (machine.name,), pytest.fail, "test"):
        pass


def test_a_line_that_leads_elsewhere_next_time_changes_nothing_there(far, machine, tmp_path):
    """As where several hosts have one name: the lock is of the first one."""
    with (
        another_libvirtd(tmp_path / "another", alone=False) as other,
        connect(far.uri) as there,
        held(there, (machine.name,), print, "test") as lock,
    ):
        far.cut(other.directory / "run" / "libvirt-sock")
        with pytest.raises(LostLockError):
            lock.require(machine.name)


@pytest.mark.parametrize("known", [False, True])
def test_another_host_behind_the_same_address_is_none_to_go_on_with(
    connection, far, machine, tmp_path, known
):
    """As where an address went over to another host, or a name to another address."""
    with another_libvirtd(tmp_path / "another") as other, connect(far.uri) as there:
        first = identity(there) if known else None
        for _ in range(2):
            far.cut(other.directory / "run" / "libvirt-sock")
            with pytest.raises(HypervisorError) as refused:
                domains.exists(there, machine.name)
        said = refused.value.message
        assert f"leads to another-{other.uuid[:8]}" in said
        assert connection.handle.getHostname() in said
        if first is not None:
            assert first.host_uuid in said
            assert other.uuid in said
        # It is the first one again.
        far.cut()
        assert not domains.exists(there, machine.name)


def test_what_happens_is_heard_over_the_next_line(connection, far, machine):
    assert deploy(connection, machine) is None
    with connect(far.uri) as there:
        domain = domains.our_domain(there, machine.name)
        with ends(there, domain) as ended, happenings(there, domain) as happened:
            far.cut()
            assert domain.isActive()
            # Something may have been missed; that it ended, nobody said.
            assert happened.wait(10)
            assert not ended.is_set()
            connection.handle.lookupByName(machine.name).destroy()
            assert ended.wait(10)


def test_a_console_is_heard_over_the_next_line(connection, far, machine):
    """What was written meanwhile is lost, and that is known."""
    with connect(far.uri) as there:
        assert deploy(there, machine) is None
        domain = domains.our_domain(there, machine.name)
        domain.destroy()
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        with record(there, machine.name) as text:
            far.cut()
            assert domain.isActive()
            domain.resume()
            deadline = time.monotonic() + 120
            while "up" not in text.lines():
                assert time.monotonic() < deadline, text.lines()
                time.sleep(0.1)
            assert text.interrupted


def test_a_line_that_was_cut_is_not_made_again_to_be_closed(connection, far, machine):
    assert deploy(connection, machine) is None
    with connect(far.uri) as there:
        domain = domains.our_domain(there, machine.name)
        with ends(there, domain):
            far.cut()
    assert far.traffic().there == 0


def test_what_changes_something_is_not_asked_for_twice(far, machine, monkeypatch):
    """Whether it was done, nobody knows: whoever asked is told."""
    calls = []

    def cut_meanwhile(_, xml, __):
        calls.append(xml)
        far.cut()
        raise libvirt.libvirtError("the line was cut")

    with connect(far.uri) as there:
        monkeypatch.setattr(libvirt.virConnect, "defineXMLFlags", cut_meanwhile)
        with pytest.raises(libvirt.libvirtError, match="was cut"):
            there.handle.defineXMLFlags("<domain/>", 0)
        assert len(calls) == 1
        assert observe(there).uri == far.uri


@pytest.mark.parametrize("done", [False, True])
def test_that_a_volume_is_whole_is_said_over_the_next_line(
    connection, far, pool, monkeypatch, done
):
    """It is said while a guest starts: a machine would be put back for the line's sake."""
    delete = libvirt.virStorageVol.delete

    def cut_meanwhile(volume, flags):
        monkeypatch.undo()
        if done:
            delete(volume, flags)
        far.cut()
        return delete(volume, flags)

    name = "pyguixvm-web.g1.qcow2"
    with connect(far.uri) as there:
        with incomplete_until_done(there, pool.name, name):
            volumes.create(there, pool.name, VolumeDefinition(name=name, capacity=4096))
            monkeypatch.setattr(libvirt.virStorageVol, "delete", cut_meanwhile)
        assert far.cuts
    assert volumes.names(connection, pool.name) == {name}


def test_a_line_that_does_not_come_back_fails_once(far):
    with connect(far.uri, patience=2) as there:
        far.lose()
        with pytest.raises(HypervisorError, match=r"there is no other|lost|closed|Cannot"):
            observe(there)
        # Those who clean up do not wait for it, each of them.
        for _ in range(20):
            with pytest.raises((HypervisorError, libvirt.libvirtError)):
                domains.exists(there, "web")


def test_a_line_that_says_nothing_any_more_is_left(far):
    """As where an address changed: nobody says that the connection is gone."""
    with connect(far.uri, patience=2) as there:
        process = far._relay._process
        process.send_signal(signal.SIGSTOP)
        far._socket.unlink()
        far._relay = far._opened.enter_context(relayed(far._socket, later=0, rate=0))
        assert observe(there).uri == far.uri
        process.send_signal(signal.SIGCONT)


def test_an_ssh_that_was_killed_is_started_again(tmp_path):
    with sshd(tmp_path, 2391) as server:
        uri = server.uri(command=server.client())
        with connect(uri) as there:
            assert observe(there).uri
            killed = subprocess.run(
                ["pgrep", "--exact", "--parent", str(os.getpid()), "ssh"],
                capture_output=True,
                check=True,
            )
            for process in killed.stdout.split():
                os.kill(int(process), signal.SIGKILL)
            assert observe(there).uri
