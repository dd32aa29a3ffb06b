# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending images over a line of 20 Mbit/s on which a round trip takes 50 ms."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from measure import Row

sys.path.append(str(Path(__file__).parents[1] / "libvirt"))

from relay import Relay, relayed

from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError
from pyguixvm.events import ignore
from pyguixvm.hypervisor.base_volume import BaseVolumes, image_content
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.pools import ensure_pool, find_pool
from pyguixvm.hypervisor.volumes import Volume

_MIB = 1024**2
_SIZE = 128 * _MIB
_POOL = f"bench-lines-{os.getpid()}"


def over_a_line(_runs: int, _work: object) -> Iterator[Row]:
    """Send images with a tenth of data: in one piece, and in many as file systems have it."""
    with tempfile.TemporaryDirectory() as directory, connect("qemu:///system") as here:
        ensure_pool(here, _POOL)
        here_pool = find_pool(here, _POOL)
        try:
            for what, pieces in (("one piece", 1), ("100 pieces", 100)):
                yield from _compared(Path(directory), what, pieces)
            yield _cut(Path(directory))
        finally:
            handle = here.handle.storagePoolLookupByName(_POOL)
            handle.refresh()
            for volume in handle.listAllVolumes():
                volume.delete()
            handle.destroy()
            handle.undefine()
            Path(here_pool.path).rmdir()


def _compared(directory: Path, what: str, pieces: int) -> Iterator[Row]:
    image = _image(directory / what.replace(" ", "-"), pieces)
    data = _SIZE // 10
    digests = Digests(directory / "state")
    with relayed(directory / "line") as relay:
        took, _ = _measured(relay, lambda: _provide(relay, image, digests))
        raw, _ = _measured(relay, lambda: _by_hand(relay, image))
        sparse, _ = _measured(relay, lambda: _by_hand(relay, image, "--sparse"))
        again, little = _measured(relay, lambda: _provide(relay, image, digests))
    name = f"image of {_SIZE // _MIB}M, a tenth of it data in {what}"
    ratio = took / raw
    yield Row(name, took, raw, "virsh vol-upload", ratio, "≤ 0.15", ratio <= 0.15)
    ratio = took / sparse
    yield Row(name, took, sparse, "virsh vol-upload --sparse", ratio, "≤ 1", ratio <= 1)
    part = little / data
    yield Row("the next machine on it", again, 0, "", 0, "< 1 % of its bytes", part < 0.01,
              note=f"{little} bytes of {data}")  # fmt: skip


def _cut(directory: Path) -> Row:
    """Cut the line at nine tenths; by another process, so that who sent it is known to be dead."""
    image, whole = _image(directory / "cut", 20, size=8 * _SIZE), 8 * _SIZE // 10
    with relayed(directory / "line") as relay:
        command = [sys.executable, __file__, relay.uri, str(image), str(directory / "state")]
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
        before = relay.traffic().there
        while child.poll() is None and relay.traffic().there - before < 0.9 * whole:
            time.sleep(0.01)
        relay.cut()
        child.kill()
        child.wait()
    with relayed(directory / "line") as relay:
        begun, before = time.monotonic(), relay.traffic().there
        _provide(relay, image, Digests(directory / "state"))
        took, sent = time.monotonic() - begun, relay.traffic().there - before
    part = sent / whole
    return Row("cut at 90 %, and gone on with", took, 0, "", 0, "≤ 12 % again", part <= 0.12,
               note=f"{part:.1%} of its bytes")  # fmt: skip


def _image(file: Path, pieces: int, size: int = _SIZE) -> Path:
    """Make a sparse image with so many PIECES of data, a tenth of it all in all."""
    source, each = random.Random(pieces), size // 10 // pieces
    with file.open("wb") as writing:
        for number in range(pieces):
            writing.seek(number * (size // pieces) // 4096 * 4096)
            writing.write(source.randbytes(each))
        writing.truncate(size)
    return file


def _measured(relay: Relay, work: object) -> tuple[float, int]:
    begun, before = time.monotonic(), relay.traffic().there
    assert callable(work)
    work()
    return time.monotonic() - begun, relay.traffic().there - before


def _provide(relay: Relay, image: Path, digests: Digests) -> Volume:
    content = image_content(image, digests, ignore)
    with connect(relay.uri) as connection:
        return BaseVolumes(connection, _POOL, digests, ignore).provide(image, content)


def _by_hand(relay: Relay, image: Path, *options: str) -> None:
    name = f"by-hand-{threading.get_ident()}"
    for words in (
        ("vol-create-as", _POOL, name, str(_SIZE)),
        ("vol-upload", *options, "--pool", _POOL, name, str(image)),
        ("vol-delete", "--pool", _POOL, name),
    ):
        subprocess.run(["virsh", "-q", "-c", relay.uri, *words], check=True, capture_output=True)


if __name__ == "__main__":
    _POOL = f"bench-lines-{os.getppid()}"
    _digests = Digests(Path(sys.argv[3]))
    _content = image_content(Path(sys.argv[2]), _digests, ignore)
    with suppress(HypervisorError), connect(sys.argv[1]) as _there:
        BaseVolumes(_there, _POOL, _digests, ignore).provide(Path(sys.argv[2]), _content)
