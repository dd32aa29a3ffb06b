# SPDX-License-Identifier: GPL-3.0-or-later
"""What is free on a file system is free once, for however many pools there are on it."""

import threading
from contextlib import ExitStack

import pytest

from pyguixvm.apply.moved_volumes import Move, Shared
from pyguixvm.apply.space_there import space_for
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError
from pyguixvm.events import Notice
from pyguixvm.hypervisor.upload import upload_volume
from pyguixvm.xml.pool import directory_pool_xml

MIB = 1024**2
VOLUME = "pyguixvm-space.g1.qcow2"


@pytest.fixture
def file_systems(connection, run, tmp_path):
    """Make file systems of SIZE bytes, each with pools of these names: NAMES of one each."""
    with ExitStack() as made:

        def make(*names, size=64 * MIB):
            place = tmp_path / names[0]
            place.mkdir()
            run("mount", "-t", "tmpfs", "-o", f"size={size}", "pyguixvm-test", place)
            made.callback(run, "umount", place)
            for name in names:
                directory = place / name
                directory.mkdir()
                pool = connection.handle.storagePoolCreateXML(
                    directory_pool_xml(name, str(directory)), 0
                )
                made.callback(pool.destroy)

        yield make


@pytest.fixture
def moved(connection, tmp_path):
    """Return what moves volumes from pools to pools of the same names, with SIZES in MiB."""
    shared, told = Shared(), []

    def move(**sizes):
        for pool, size in sizes.items():
            file = tmp_path / "file"
            file.write_bytes(b"x" * size * MIB)
            upload_volume(connection, pool, VOLUME, file, told.append)
        digests = Digests(tmp_path / "state")
        made = Move("space", connection, connection, told.append, digests, lambda: None, shared)
        return space_for(made, [(pool, VOLUME) for pool in sizes])

    move.told = told
    return move


def waits(told):
    return any(isinstance(each, Notice) and each.message.startswith("waits") for each in told)


def test_pools_of_one_file_system_have_together_what_is_free(file_systems, moved):
    file_systems("pyguixvm-one", "pyguixvm-other")
    # 24 MiB are free then.
    refused = moved(**{"pyguixvm-one": 20, "pyguixvm-other": 20})
    with pytest.raises(HypervisorError, match="are on one file system") as error, refused:
        pass
    assert "40M" in error.value.message


def test_pools_of_two_alike_have_each_its_own(file_systems, moved):
    file_systems("pyguixvm-one")
    file_systems("pyguixvm-other")
    with moved(**{"pyguixvm-one": 20, "pyguixvm-other": 21}):
        pass


def test_who_goes_to_another_pool_of_one_that_is_promised_waits(file_systems, moved):
    file_systems("pyguixvm-one", "pyguixvm-other")
    first, second = moved(**{"pyguixvm-one": 20}), moved(**{"pyguixvm-other": 15})
    went = threading.Event()

    def go():
        with second:
            went.set()

    thread = threading.Thread(target=go, daemon=True)
    with first:
        thread.start()
        while not waits(moved.told):
            assert not went.wait(0.05)
    assert went.wait(60)
    thread.join(60)


def test_what_fits_beside_goes_at_once(file_systems, moved):
    file_systems("pyguixvm-one", "pyguixvm-other")
    first, second = moved(**{"pyguixvm-one": 10}), moved(**{"pyguixvm-other": 15})
    with first, second:
        pass
    assert not waits(moved.told)
