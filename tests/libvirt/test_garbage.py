# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the making is no garbage while whoever makes it holds a lock, quick or slow."""

from datetime import timedelta

import pytest
from deploying import session, virsh

from pyguixvm.commands import garbage
from pyguixvm.events import ignore
from pyguixvm.hypervisor import volumes
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.model.volume_names import generation_volume, marker
from pyguixvm.xml.volume import VolumeDefinition

BASE = f"pyguixvm-{'b' * 32}.img"


@pytest.mark.parametrize("base", [False, True])
def test_what_is_made_slowly_stays_while_its_maker_holds_the_lock(
    connection, pool, a_machine, tmp_path, base
):
    name = a_machine().name
    volume = BASE if base else generation_volume(name, 1)
    for each in (volume, marker(volume)):
        volumes.create(connection, pool.name, VolumeDefinition(name=each, capacity=4096))

    def waste():
        found = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
        return {each.name for each in found.volumes}

    agreed = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
    assert volume in {each.name for each in agreed.volumes}
    with held(connection, (name,), ignore, "deploy"):
        # Nothing was written to it for however long.
        assert volume not in waste()
        garbage.collect(session(tmp_path), keep=0, older_than=timedelta(0), agreed=agreed)
        assert volumes.incomplete(connection, pool.name, volume)
    assert volume in waste()
    volumes.delete(connection, pool.name, volume)


def test_a_root_whose_machine_somebody_undefined_is_told_and_stays(
    connection, halting, pool, tmp_path
):
    def stray():
        found = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
        assert not any(volume.pool == pool.name for volume in found.volumes)
        return [each.name for each in found.stray if each.pool == pool.name]

    assert stray() == []
    virsh(f"destroy {halting.name}")
    virsh(f"undefine {halting.name}")
    assert stray() == [generation_volume(halting.name, 1)]
