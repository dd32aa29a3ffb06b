# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves that end where nobody wants them to, and what others do before they go on: nothing is lost.

Nothing of a machine is deleted at one place unless it is whole at the other, and it is never
startable at two.
"""

import os
import signal
from pathlib import Path, PurePosixPath
from shlex import quote

import msgspec
import pytest
from another import another_libvirtd
from deploying import MIB, deploy, renewed, session, virsh, with_image
from travelling import DATA, SYSTEM, session_at

from pyguixvm.apply import live_migration, migration
from pyguixvm.cli.app import main
from pyguixvm.commands import migrate
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.connection import connect, identity
from pyguixvm.model.applied import Merging
from pyguixvm.model.volume_names import generation_volume, is_ours
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.metadata import NAMESPACE
from pyguixvm.xml.text import parse


def test_who_is_interrupted_just_after_the_definition_loses_nothing(traveller, monkeypatch):
    here, there = traveller.connection, traveller.there
    had = traveller.volumes_of(here)

    def interrupted(connection, xml, known=None, real=domains.define):
        real(connection, xml, known)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migration.domains, "define", interrupted)
        with pytest.raises(KeyboardInterrupt):
            traveller.move(there)
    assert had <= traveller.volumes_of(here)
    traveller.move(there)
    traveller.require_whole(there)
    assert had <= traveller.volumes_of(there)


def test_a_definition_that_comes_after_all_hope_finds_what_it_names(traveller, monkeypatch):
    here, there = traveller.connection, traveller.there
    had, asked = traveller.volumes_of(here), []

    def late(_connection, xml, _known=None):
        asked.append(xml)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migration.domains, "define", late)
        with pytest.raises(KeyboardInterrupt):
            traveller.move(there)
    domains.define(there, asked[0])
    traveller.move(there)
    traveller.require_whole(there)
    assert had <= traveller.volumes_of(there)


def test_a_line_that_drops_when_the_guest_has_moved_loses_nothing(traveller, line, monkeypatch):
    here, there = traveller.connection, traveller.there
    had = traveller.volumes_of(here)
    domains.start(here, traveller.name)

    def lost(*arguments, real=live_migration.migration.migrate):
        real(*arguments)
        raise HypervisorError("connection to the server was lost")

    with monkeypatch.context() as patched:
        patched.setattr(live_migration.migration, "migrate", lost)
        with pytest.raises(HypervisorError):
            traveller.move(there, by=line.there)
    traveller.move(there, by=line.there)
    traveller.require_whole(there)
    assert had <= traveller.volumes_of(there)


def test_what_did_not_arrive_is_not_given_up(traveller):
    here, there = traveller.connection, traveller.there
    first = generation_volume(traveller.name, 1)
    had = traveller.volumes_of(here)
    # Not where it was any more, it is not all there.
    assert traveller.once(here, there, "undefineFlags").returncode == -signal.SIGKILL
    volumes.delete(there, traveller.pool, first)
    assert f"{first} is not on {there.uri}, and stays on {here.uri}" in traveller.move(there)
    assert traveller.volumes_of(here) == {first}
    assert had - {first} <= traveller.volumes_of(there)


def test_what_was_deleted_where_it_comes_to_is_sent_again(traveller):
    here, there = traveller.connection, traveller.there
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    volumes.delete(there, traveller.pool, traveller.volume)
    with pytest.raises(RequestRefusedError, match="is not all there"):
        traveller.move(there)
    traveller.require_whole(here)
    traveller.move(there)
    traveller.require_whole(there)


def test_the_last_copy_of_what_was_deleted_where_it_was_is_not_taken_back(traveller):
    here, there = traveller.connection, traveller.there
    had = traveller.volumes_of(here)
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    virsh(f"vol-delete --pool {traveller.pool} {traveller.volume}")
    with pytest.raises(RequestRefusedError, match="is not there any more") as refused:
        traveller.move(there)
    assert f"undefine --nvram {traveller.name}" in refused.value.hint
    assert had <= traveller.volumes_of(there)
    # Started as well: what was sent is neither given up nor let loose.
    assert traveller.at() == [here, there]
    assert not traveller.can_start(there)
    virsh(f"undefine --nvram {traveller.name}")
    traveller.move(there)
    traveller.require_whole(there)


def test_what_was_changed_and_lost_where_it_was_is_not_taken_back_either(traveller):
    here, there = traveller.connection, traveller.there
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    virsh(f"vol-delete --pool {traveller.pool} {traveller.volume}")
    root = volumes.refreshed(here, traveller.pool, generation_volume(traveller.name, 2))
    os.utime(root.path)
    with pytest.raises(RequestRefusedError, match="is not there any more"):
        traveller.move(there)
    assert traveller.data_of(there) == DATA


def test_what_is_deployed_meanwhile_stays_where_it_is(traveller):
    here, there = traveller.connection, traveller.there
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    third = renewed(traveller.machine, traveller.directory)
    seconds = third.image.modified + 5
    os.utime(third.image.path, (seconds, seconds))
    third = with_image(third, Path(third.image.path))
    assert deploy(here, third, force=True) is None
    domains.destroy(here, traveller.name)
    current = domains.read_metadata(here, traveller.name).current
    assert current == 3
    with pytest.raises(RequestRefusedError, match="or changed"):
        traveller.move(there)
    traveller.require_whole(here)
    traveller.move(there)
    traveller.require_whole(there)
    assert domains.read_metadata(there, traveller.name).current == current


def test_a_disk_that_was_added_meanwhile_stays_where_it_is(traveller):
    here, there = traveller.connection, traveller.there
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    added = traveller.directory / "added.raw"
    added.write_bytes(bytes(MIB))
    virsh(f"attach-disk {traveller.name} {added} vdz --config")
    with pytest.raises(RequestRefusedError, match="or changed"):
        traveller.move(there)
    traveller.require_whole(here)
    assert str(added) in domains.inactive_xml(here, traveller.name)


def test_programs_that_do_not_know_of_moves_leave_one_on_its_way_alone(traveller):
    here, there = traveller.connection, traveller.there
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    xml = domains.inactive_xml(there, traveller.name)
    # They read schemas up to 2, and take out disks that are called like their volumes.
    assert schema_of(xml) == "3"
    (fence,) = (disk for disk in inspect_domain(xml).hardware.disks if "fence" in disk)
    assert not is_ours(PurePosixPath(fence).name)
    traveller.move(there)
    assert schema_of(domains.inactive_xml(there, traveller.name)) == "2"
    assert traveller.can_start(there)


def schema_of(xml):
    return parse(xml).find(f"metadata/{{{NAMESPACE}}}machine").get("schema")


def test_one_that_went_to_a_third_host_is_not_let_loose_on_the_second(traveller, tmp_path_factory):
    here, there = traveller.connection, traveller.there
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    with (
        another_libvirtd(tmp_path_factory.mktemp("third")) as running,
        connect(running.uri) as third,
    ):
        migrate.migrate(session(traveller.directory), (traveller.name,), to=third.uri)
        assert domains.exists(third, traveller.name)
        with pytest.raises(RequestRefusedError, match="is on its way") as refused:
            migrate.migrate(session_at(third), (traveller.name,), to=there.uri)
        assert third.uri in refused.value.message
        assert here.uri in refused.value.message
        assert not traveller.can_start(there)
        assert traveller.can_start(third)


def test_another_hypervisor_with_the_uuid_of_its_host_is_not_where_it_was(
    traveller, tmp_path_factory
):
    here, there = traveller.connection, traveller.there
    uuid = identity(here).host_uuid
    with (
        another_libvirtd(tmp_path_factory.mktemp("alike"), uuid=uuid) as running,
        connect(running.uri) as alike,
    ):
        assert identity(alike).host_uuid == uuid
        killed = traveller.once(here, there, "defineXMLFlags")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        # That one is known first, and has nothing of it.
        migrate.migrate(session_at(alike), (traveller.name,), to=there.uri)
        traveller.require_whole(there)
        traveller.move(here)
        # Nor is it where a machine comes from that came there.
        killed = traveller.once(here, alike, "defineXMLFlags")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        migrate.migrate(session_at(alike), (traveller.name,), to=alike.uri)
        assert not traveller.at()
        assert traveller.can_start(alike)


def test_one_that_starts_with_its_host_does_so_there_too(traveller):
    here, there = traveller.connection, traveller.there
    here.handle.lookupByName(traveller.name).setAutostart(1)
    traveller.move(there)
    assert there.handle.lookupByName(traveller.name).autostart()
    there.handle.lookupByName(traveller.name).setAutostart(0)
    traveller.move(here)
    assert not here.handle.lookupByName(traveller.name).autostart()


def test_whoever_leaves_a_host_finishes_what_was_broken_off(traveller, capfd):
    here, there = traveller.connection, traveller.there
    # From where nobody else's machines are.
    traveller.move(there)
    assert traveller.once(there, here, "undefineFlags").returncode == -signal.SIGKILL
    assert traveller.at() == [here]
    assert main(["evacuate", there.uri, "--to", SYSTEM]) == 0
    assert f"{traveller.name}: came from {there.uri}" in capfd.readouterr().out
    traveller.require_whole(here)
    assert traveller.can_start(here)


def test_a_machine_whose_layers_are_being_merged_does_not_move(traveller):
    here, there = traveller.connection, traveller.there
    metadata = domains.read_metadata(here, traveller.name)
    root = metadata.generation
    merging = Merging(root.pool, (root.volume, generation_volume(traveller.name, 1)))
    domains.write_metadata(here, traveller.name, msgspec.structs.replace(metadata, merging=merging))
    with pytest.raises(RequestRefusedError, match="are being merged"):
        traveller.move(there)
    domains.write_metadata(here, traveller.name, metadata)
    assert traveller.at() == [here]
    assert traveller.volumes_of(there) == set()


def test_a_guest_that_waits_after_a_move_that_was_cut_is_told_how_to_go_on(traveller):
    here, there = traveller.connection, traveller.there
    domains.start(here, traveller.name)
    here.handle.lookupByName(traveller.name).suspend()
    with pytest.raises(RequestRefusedError, match="is paused") as refused:
        traveller.move(there)
    assert f"virsh -c {quote(here.uri)} resume {traveller.name}" in refused.value.hint
    assert "shutdown" not in refused.value.hint
    virsh(f"resume {traveller.name}")
    domains.destroy(here, traveller.name)


def test_what_was_refused_is_tried_again_with_what_was_sent(traveller, line, monkeypatch):
    here, there = traveller.connection, traveller.there
    had = traveller.volumes_of(here)

    def refused(*_):
        raise HypervisorError("no such thing here")

    with monkeypatch.context() as patched:
        patched.setattr(migration.domains, "define", refused)
        with pytest.raises(HypervisorError, match="no such thing"):
            traveller.move(there)
    # It is not whole, and counts as broken off.
    assert had <= traveller.volumes_of(there)
    assert not any(volumes.is_whole(there, traveller.pool, name) for name in had)
    domains.start(here, traveller.name)
    with pytest.raises(HypervisorError, match=r"It runs where it was|migrate domain"):
        traveller.move(there, by="tcp://127.0.0.1:1")
    assert domains.state(here, traveller.name) == "running"
    traveller.move(there, by=line.there)
    traveller.require_whole(there)
    domains.destroy(there, traveller.name)
