# SPDX-License-Identifier: GPL-3.0-or-later
"""An upload that was cut goes on where it was, and what is there in the end is the image."""

import os
import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from relay import relayed

from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError
from pyguixvm.events import Notice, PhaseProgress, ignore
from pyguixvm.hypervisor import sending, volumes
from pyguixvm.hypervisor.base_volume import BaseVolumes, image_content
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.resumption import BLOCK, arrived

MIB = 1024**2

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def image(tmp_path):
    """An image with data in it, zeros that are no hole, and holes."""
    file = tmp_path / "image"
    data = random.Random(17)
    with file.open("wb") as writing:
        writing.write(data.randbytes(6 * MIB + 123))
        writing.seek(12 * MIB)
        writing.write(bytes(5 * MIB) + data.randbytes(9 * MIB))
        writing.truncate(40 * MIB)
    return file


def sent(path, connection, pool, tmp_path, emit=ignore):
    digests = Digests(tmp_path / "state")
    content = image_content(path, digests, ignore)
    return BaseVolumes(connection, pool.name, digests, emit).provide(path, content)


def cut_when(relay, part):
    """Cut RELAY when PART of the image was sent."""

    def emit(event):
        if isinstance(event, PhaseProgress) and event.done >= part * event.total:
            settle(relay)
            relay.cut()

    return emit


def settle(relay):
    """Return when the line has all that was sent so far: who calls this sends it."""
    before = None
    while (now := relay.traffic().there) != before:
        before = now
        time.sleep(0.1)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_it_goes_on_where_it_was_cut(image, pool, tmp_path, part):
    line = tmp_path / "line"
    with (
        relayed(line, rate=0, later=0) as relay,
        connect(relay.uri, patience=3) as connection,
        pytest.raises(HypervisorError),
    ):
        sent(image, connection, pool, tmp_path, cut_when(relay, part))
    told = []
    with relayed(line, rate=0, later=0) as relay, connect(relay.uri) as connection:
        before = relay.traffic().there
        made = sent(image, connection, pool, tmp_path, told.append)
        again = relay.traffic().there - before
    assert Path(made.path).read_bytes() == image.read_bytes()
    # A block that may be half there, and what looking takes.
    data = 20 * MIB
    assert again <= data * (1 - part) + 4 * MIB + 256 * 1024
    assert any(isinstance(event, Notice) and "goes on with" in event.message for event in told)
    with connect() as connection:
        assert volumes.is_whole(connection, pool.name, made.name)


def test_it_goes_on_over_the_next_line(image, pool, tmp_path):
    """The command does, as often as the line is cut, as long as more arrives each time."""
    line, told, parts = tmp_path / "line", [], [0.2, 0.5, 0.9]
    with ExitStack() as opened:
        relays = [opened.enter_context(relayed(line, rate=0, later=0))]

        def emit(event):
            told.append(event)
            if isinstance(event, PhaseProgress) and parts and event.done >= parts[0] * event.total:
                parts.pop(0)
                settle(relays[-1])
                relays[-1].cut()
                line.unlink()
                relays.append(opened.enter_context(relayed(line, rate=0, later=0)))

        connection = opened.enter_context(connect(relays[0].uri))
        made = sent(image, connection, pool, tmp_path, emit)
        assert len(relays) == 4
        assert Path(made.path).read_bytes() == image.read_bytes()
        # What came before the last cut did not come again.
        assert relays[-1].traffic().there <= 20 * MIB * 0.1 + 4 * MIB + 256 * 1024
    with connect() as connection:
        assert volumes.is_whole(connection, pool.name, made.name)


def test_what_its_host_lost_since_is_found_and_sent_anew(image, pool, tmp_path):
    """It was acknowledged, and not on the disk yet when the host went down."""
    line = tmp_path / "line"
    with (
        relayed(line, rate=0, later=0) as relay,
        connect(relay.uri, patience=3) as connection,
        pytest.raises(HypervisorError),
    ):
        sent(image, connection, pool, tmp_path, cut_when(relay, 0.9))
    (begun,) = Path(pool.path).glob("*.img")
    with begun.open("r+b") as file:
        # Between the places that are looked at.
        file.seek(BLOCK + 8192)
        file.write(bytes(4096))
    with relayed(line, rate=0, later=0) as relay, connect(relay.uri) as connection:
        with pytest.raises(HypervisorError, match="does not hold what was sent"):
            sent(image, connection, pool, tmp_path)
        made = sent(image, connection, pool, tmp_path)
    assert Path(made.path).read_bytes() == image.read_bytes()


def test_it_is_found_how_far_it_got(connection, elsewhere, image, pool):
    handle = connection.handle.storagePoolLookupByName(pool.name)
    with image.open("rb") as source:
        extents = tuple(sending.data_extents(source))
        whole = image.read_bytes()
        for length in (0, 1, BLOCK, 3 * MIB + 17, 6 * MIB + 123, 19 * MIB, 25 * MIB, 40 * MIB):
            file = Path(pool.path) / f"pyguixvm-part-{length}.img"
            file.write_bytes(whole[:length])
            os.truncate(file, len(whole))
            handle.refresh()
            volume = volumes.lookup(connection, pool.name, file.name)
            start = arrived(elsewhere, volume, source, extents)
            # Nothing is left out, and little is sent twice.
            assert whole[:start] == file.read_bytes()[:start]
            data = sum(max(0, min(a + n, length) - max(a, start)) for a, n in extents)
            assert data <= 6 * MIB if 12 * MIB < length < 18 * MIB else data <= 2 * BLOCK
            file.unlink()


def test_what_is_not_there_in_order_is_sent_again(connection, elsewhere, image, pool):
    """A host that went down may have written the end, and not the begin."""
    whole = image.read_bytes()
    file = Path(pool.path) / "pyguixvm-part.img"
    file.write_bytes(bytes(5 * MIB) + whole[5 * MIB : 25 * MIB])
    os.truncate(file, len(whole))
    connection.handle.storagePoolLookupByName(pool.name).refresh()
    volume = volumes.lookup(connection, pool.name, file.name)
    with image.open("rb") as source:
        assert arrived(elsewhere, volume, source, tuple(sending.data_extents(source))) == 0
    file.unlink()


def test_who_interrupts_what_took_long_can_go_on(connection, elsewhere, image, pool, tmp_path,
                                                 monkeypatch):  # fmt: skip
    monkeypatch.setattr("pyguixvm.hypervisor.sending._ACKNOWLEDGE_SECONDS", 0.0)
    told, stop = [], threading.Event()

    def emit(event):
        told.append(event)
        if isinstance(event, PhaseProgress) and event.done > 8 * MIB and not stop.is_set():
            stop.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sent(image, elsewhere, pool, tmp_path, emit)
    # Whoever goes on with it may be interrupted at once.
    monkeypatch.setattr("pyguixvm.hypervisor.sending._ACKNOWLEDGE_SECONDS", 60.0)
    stop.clear()
    with pytest.raises(KeyboardInterrupt):
        sent(image, elsewhere, pool, tmp_path, emit)
    assert any(isinstance(event, Notice) and "goes on with" in event.message for event in told)
    told.clear()
    made = sent(image, elsewhere, pool, tmp_path, emit)
    assert Path(made.path).read_bytes() == image.read_bytes()
    assert any(isinstance(event, Notice) and "goes on with" in event.message for event in told)


def test_of_an_image_that_ends_in_a_hole_nothing_is_cut_off(elsewhere, pool, tmp_path):
    """With holes in its stream, libvirt cuts a volume off where the last one of them ends."""
    for number, pieces in enumerate(([], [(0, 5)], [(3 * MIB, 70), (9 * MIB, MIB)])):
        file = tmp_path / f"image-{number}"
        with file.open("wb") as writing:
            for offset, length in pieces:
                writing.seek(offset)
                writing.write(b"x" * length)
            writing.truncate(10 * MIB + 512)
        made = sent(file, elsewhere, pool, tmp_path)
        assert Path(made.path).read_bytes() == file.read_bytes()
