# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is composed by the Guix of a hypervisor's host, of store items that it has or gets.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_via.py``.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from far_guix import OUR_KEYS, FarGuix, far_guix
from guest import eventually
from running import CONFIGS, command, pyguixvm, virsh
from sshd import sshd

from pyguixvm.apply.by_store import placing, way
from pyguixvm.apply.contents import Contents
from pyguixvm.apply.context import Workshop
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Event, Notice, PhaseProgress, ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.far_guix import UnauthorizedError
from pyguixvm.hypervisor.new_volume import NewVolume
from pyguixvm.model.transfer import Via
from pyguixvm.model.volume_names import base_volume

pytestmark = pytest.mark.guix

MIB = 1024**2
NAME = "pyguixvm-composed.g1.qcow2"
PORT = 2281
# Of store items that nothing refers to, and that nobody else has.
SIZES = {"first": 9 * MIB, "second": 5 * MIB + 777, "third": 3 * MIB}

# Nobody waits for its guest.
UNSEEN = f"""
(virtual-machine
  (inherit (load "{CONFIGS / "agent.scm"}"))
  (ready '()))
"""


def in_store(file: Path) -> str:
    """Return the store item that holds what FILE does."""
    made = command("guix", "download", f"file://{file}")
    assert made.status == 0, made.err
    return made.out.splitlines()[0]


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return store items of these tests' own, by their names: each test's host lacks them."""
    directory = tmp_path_factory.mktemp("items")
    found = {}
    for name, size in SIZES.items():
        file = directory / name
        file.write_bytes(random.randbytes(size))
        found[name] = in_store(file)
    return found


@pytest.fixture(scope="module")
def contents(items: dict[str, str]) -> Contents:
    return Contents({item: SIZES[name] for name, item in items.items()})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, items: dict[str, str]) -> Path:
    """Return an image with all that is in the items, in pieces, and 300 KiB besides."""
    first, second, third = (Path(items[name]).read_bytes() for name in SIZES)
    file = tmp_path_factory.mktemp("image") / "image"
    with file.open("wb") as writing:
        writing.write(random.randbytes(300 * 1024))
        writing.write(first[: 4 * MIB])
        writing.seek(20 * MIB)
        writing.write(third)
        writing.write(first[4 * MIB :])
        writing.seek(40 * MIB)
        writing.write(second)
        writing.truncate(60 * MIB)
    return file


@pytest.fixture
def far(tmp_path: Path) -> Iterator[FarGuix]:
    """Run a host that takes store items from here."""
    with far_guix(tmp_path / "far", PORT) as host:
        host.trust_us()
        yield host


@contextmanager
def elsewhere(uri: str, emit: Callable[[Event], None] = ignore) -> Iterator[Workshop]:
    with connect(uri) as connection:
        store = Store(lambda: pytest.fail("Guix was asked"), ignore)
        yield Workshop(connection, emit, os.environ, store)
        assert volumes.lookup(connection, "default", NAME) is None


def made(
    workshop: Workshop, contents: Contents, image: Path, via: Via, pool: str = "default"
) -> bytes:
    """Return what a volume holds that was made of IMAGE, and delete it."""
    place = placing(workshop, "composed", lambda: contents, via)
    with place(image, NewVolume(pool, NAME)) as volume:
        held = Path(volume.path).read_bytes()
    volumes.delete(workshop.connection, pool, NAME)
    return held


def in_pool() -> set[str]:
    virsh("pool-refresh", "default")
    return {line.split()[0] for line in virsh("vol-list", "default").splitlines() if line.strip()}


def test_what_its_store_lacks_is_sent_once(far: FarGuix, image: Path, contents: Contents) -> None:
    whole = image.read_bytes()
    with elsewhere(far.uri) as there:
        chosen, _ = way(there.connection, "default", image, lambda: contents, "store")
        assert (chosen.way, chosen.items, chosen.sent) == ("store", 3, 3)
        assert made(there, contents, image, "store") == whole
        chosen, _ = way(there.connection, "default", image, lambda: contents, "auto")
        assert (chosen.way, chosen.items, chosen.sent) == ("store", 3, 0)
        assert 300 * 1024 <= chosen.size <= 301 * 1024
    before = far.meter.went()
    assert before > 17 * MIB
    with elsewhere(far.uri) as there:
        assert made(there, contents, image, "auto") == whole
    assert far.meter.went() - before < MIB


def test_what_was_imported_before_a_cut_is_not_sent_again(
    far: FarGuix, image: Path, contents: Contents
) -> None:
    before = in_pool()
    with elsewhere(far.uri) as there:
        # The first of them has arrived by then, whichever that is.
        far.meter.cut_after(13 * MIB)
        with pytest.raises(HypervisorError, match="does not answer"):
            made(there, contents, image, "store")
    far.meter.cut_after(None)
    assert in_pool() == before
    with elsewhere(far.uri) as there:
        chosen, _ = way(there.connection, "default", image, lambda: contents, "store")
        assert chosen.sent in {1, 2}
        assert made(there, contents, image, "store") == image.read_bytes()


def test_where_it_is_cut_and_may_be_sent_it_is(
    far: FarGuix, image: Path, contents: Contents, items: dict[str, str]
) -> None:
    far.run("guix archive --import", exported(items["first"], items["second"]))

    def emit(event: Event) -> None:
        if isinstance(event, Notice) and event.warning:
            assert "its bits are sent" in event.message
            far.meter.cut_after(None)

    with elsewhere(far.uri, emit) as there:
        place = placing(there, "composed", lambda: contents, "auto")
        # After the question, and before all of the third item.
        far.meter.cut_after(MIB)
        with place(image, NewVolume("default", NAME)) as volume:
            assert command("cmp", volume.path, image).status == 0
        volumes.delete(there.connection, "default", NAME)


def exported(*items: str) -> bytes:
    ran = subprocess.run(
        ["guix", "archive", "--export", *items], stdout=subprocess.PIPE, check=True
    )
    return ran.stdout


def test_a_key_that_is_not_known_there_is_told(
    tmp_path: Path, image: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    before = in_pool()
    with far_guix(tmp_path / "far", PORT) as far, elsewhere(far.uri, told.append) as there:
        # Where it is not known here, the daemon there says so in the end.
        with pytest.raises(UnauthorizedError, match="takes no store items") as refused:
            made(there, contents, image, "store")
        assert "guix archive --authorize" in str(refused.value.hint)
        assert in_pool() == before
        monkeypatch.setenv("GUIX_CONFIGURATION_DIRECTORY", str(OUR_KEYS))
        with pytest.raises(RequestRefusedError, match="takes no store items") as early:
            way(there.connection, "default", image, lambda: contents, "store")
        assert "guix archive --authorize" in str(early.value.hint)
        assert made(there, contents, image, "auto") == image.read_bytes()
        assert any(isinstance(e, Notice) and "takes no store items" in e.message for e in told)
        far.trust_us()
        assert made(there, contents, image, "store") == image.read_bytes()


def test_where_there_is_no_guix_its_bits_are_sent(
    tmp_path: Path, image: Path, contents: Contents
) -> None:
    directory = tmp_path / "ssh"
    directory.mkdir()
    for each in (directory, *directory.parents[:3]):
        each.chmod(0o755)
    told: list[Event] = []
    with (
        sshd(directory, PORT) as server,
        elsewhere(server.uri(command=server.client()), told.append) as there,
    ):
        with pytest.raises(RequestRefusedError, match="there is no guix on its host"):
            made(there, contents, image, "store")
        assert made(there, contents, image, "auto") == image.read_bytes()
    assert any(isinstance(e, Notice) and "no guix" in e.message for e in told)


def test_without_a_shell_its_bits_are_sent(image: Path, contents: Contents) -> None:
    uri = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"
    with elsewhere(uri) as there:
        with pytest.raises(RequestRefusedError, match="qemu\\+ssh"):
            made(there, contents, image, "store")
        assert made(there, contents, image, "auto") == image.read_bytes()


def test_what_it_can_fetch_itself_is_not_sent(
    tmp_path: Path, image: Path, contents: Contents
) -> None:
    with far_guix(tmp_path / "far", PORT, FETCHES="yes") as far, elsewhere(far.uri) as there:
        chosen, _ = way(there.connection, "default", image, lambda: contents, "auto")
        assert (chosen.way, chosen.sent, chosen.fetched) == ("store", 0, 3)
        # Random bytes cannot be compressed.
        assert sum(SIZES.values()) <= chosen.fetched_size <= sum(SIZES.values()) * 1.01
        assert made(there, contents, image, "auto") == image.read_bytes()
    assert far.meter.went() < MIB


def test_a_full_disk_there_is_told(tmp_path: Path, image: Path, contents: Contents) -> None:
    small = tmp_path / "small"
    small.mkdir()
    # The bed's Guix sees it below its own root.
    shown = Path(f"{OUR_KEYS.parents[1]}{small}")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], check=True)
    subprocess.run(["mount", "--bind", small, shown], check=True)
    filler = small / "filler"

    def emit(event: Event) -> None:
        if isinstance(event, PhaseProgress) and not filler.exists():
            # Somebody else takes what was free a moment ago.
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 12 * MIB)

    try:
        virsh("pool-create-as", "small", "dir", "--target", str(small))
        with far_guix(tmp_path / "far", PORT) as far, connect(far.uri) as connection:
            far.trust_us()
            store = Store(lambda: pytest.fail("Guix was asked"), ignore)
            there = Workshop(connection, emit, os.environ, store)
            with pytest.raises(HypervisorError, match="No space left") as full:
                made(there, contents, image, "store", "small")
            assert "guix gc" in str(full.value.hint)
        assert {file.name for file in small.iterdir()} == {"filler"}
    finally:
        command("virsh", "-q", "-c", "qemu:///system", "pool-destroy", "small")
        subprocess.run(["umount", shown, small], check=True)


def test_who_interrupts_it_leaves_nothing_and_goes_on(
    far: FarGuix, clean: Any, tmp_path: Path
) -> None:
    """Even what works for it there ends; then its base is what an upload would make.

    That a guest of such a base gets ready, ``test_remote`` shows.
    """
    clean("agent")
    config = tmp_path / "config.scm"
    config.write_text(UNSEEN)
    assert pyguixvm("-q", "build", config).status == 0
    # The base may be there, of tests before this one.
    assert pyguixvm("gc", "--yes").status == 0
    before = in_pool()
    deploy = ["pyguixvm", "-c", far.uri, "deploy", "--via", "store", str(config)]
    with subprocess.Popen(deploy, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "composed there of" in line)
        assert re.search(r"of (\d+) store items, of which \1 are sent", line), line
        eventually(lambda: count(far) > 6)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert in_pool() == before
    eventually(lambda: "repl -t machine" not in far.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))

    plan = pyguixvm("plan", "-c", far.uri, "--json", "--via", "store", config).json
    (machine,) = plan["plans"][0]["machines"]
    how = machine["transfer"]
    assert (how["way"], how["size"]) == ("store", machine["bytes-to-move"])
    assert 0 < how["sent"] <= how["items"] - 5

    deployed = pyguixvm("-c", far.uri, "deploy", "--via", "store", config)
    assert deployed.status == 0, deployed.err
    told = pyguixvm("generations", "-c", far.uri, "agent", "--json").json
    image = Path(told["generations"][0]["image"])
    # Its guest would boot meanwhile.
    assert pyguixvm("-c", far.uri, "undefine", "--yes", "agent").status == 0
    base = Path("/var/lib/libvirt/images") / base_volume(
        Digests(Path("/dev/null")).of(image).digest
    )
    assert command("cmp", base, image).status == 0
    virsh("vol-delete", "--pool", "default", base.name)


def count(far: FarGuix) -> int:
    """Return how many items are in the store of FAR, one of which may be half there."""
    return len(far.run("ls -d /gnu/store/*-* 2> /dev/null | grep -v '\\.lock$' || true").split())
