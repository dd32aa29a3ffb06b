# SPDX-License-Identifier: GPL-3.0-or-later
"""Base volumes hold what their names say, or nothing is laid on them."""

import os
import random
import shlex
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from boot_sector import halting
from deploying import changed, deploy, session, with_image
from sparse import same_bytes, sparse_file

from pyguixvm.commands import deploy as commands_deploy
from pyguixvm.commands.planning import observed
from pyguixvm.commands.status import statuses
from pyguixvm.digest.content import content_of
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import PhaseProgress, PhaseStarted, ignore
from pyguixvm.hypervisor import domains, download, upload, volumes
from pyguixvm.hypervisor.base_volume import BaseVolumes, image_content
from pyguixvm.image import overlay
from pyguixvm.model.volume_names import is_base
from pyguixvm.plan.plan import Policy
from pyguixvm.xml.storage import BackingFile

MIB = 1024**2
SIDES = pytest.mark.parametrize("side", ["connection", "elsewhere"])


@pytest.fixture
def here(request, side):
    """Return a connection to this machine, or what looks like one to another."""
    return request.getfixturevalue(side)


@pytest.fixture
def image(tmp_path):
    return sparse_file(tmp_path / "image.img", 40 * MIB, [(0, 5 * MIB), (20 * MIB, 12 * MIB)])


@pytest.fixture
def digests(tmp_path):
    """Return what is kept an hour after whatever was written."""
    return Digests(tmp_path / "state", lambda: time.time_ns() + 3600 * 10**9)


def provided(connection, pool, image, digests, emit=ignore):
    """Have IMAGE in POOL, as for one root volume."""
    content = image_content(image, digests, emit)
    return BaseVolumes(connection, pool.name, digests, emit).provide(image, content)


def phases(events):
    return [event.phase for event in events if isinstance(event, PhaseStarted)]


@SIDES
def test_a_base_volume_is_sent_once_and_read_once_and_nobody_writes_to_it(
    here, pool, image, digests
):
    first, again = [], []
    made = provided(here, pool, image, digests, first.append)
    assert phases(first) == ["verify", "transfer"]
    assert Path(made.path).stat().st_mode & 0o222 == 0
    assert same_bytes(image, made.path)
    # In another process, too.
    assert provided(here, pool, image, Digests(digests.state_directory), again.append) == made
    assert not again


@SIDES
def test_what_somebody_else_has_sent_is_looked_at_once(here, pool, image, digests, tmp_path):
    provided(here, pool, image, Digests(tmp_path / "colleague's"))
    digests.of(image)
    first, again = [], []
    made = provided(here, pool, image, digests, first.append)
    assert phases(first) == ["verify"]
    assert provided(here, pool, image, digests, again.append) == made
    assert not again


def rebuilt(image):
    """Write another build of IMAGE in its place: as large, with other times in it."""
    with image.open("r+b") as file:
        file.seek(1024)
        file.write(b"another")


def cut_short(path):
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)


def sent_over(path):
    """Write to the volume PATH as libvirt does."""
    other = path.with_name("other")
    subprocess.run(["cp", "--sparse=always", path, other], check=True)
    rebuilt(other)
    pool = path.parent.name
    command = ["virsh", "-q", "vol-upload", "--pool", pool, path.name, other]
    subprocess.run(command, check=True)
    other.unlink()


def swapped(path):
    """Put another file in the place of PATH that was written to at the same time."""
    times = path.stat()
    other = path.with_name("other")
    subprocess.run(["cp", "--sparse=always", path, other], check=True)
    rebuilt(other)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def one_bit_at_its_end(path):
    with path.open("r+b") as file:
        file.seek(31 * MIB)
        file.write(b"x")


DAMAGE = {
    f"{damage.__name__}, {'known' if known else 'unknown'}, {side}": (damage, known, side)
    for damage in (rebuilt, cut_short, sent_over, swapped, one_bit_at_its_end)
    for known in (True, False)
    for side in ("connection", "elsewhere")
    # Where a file that is not ours was put, only its time would tell.
    if (damage, known, side) != (swapped, True, "elsewhere")
}


@pytest.mark.parametrize(("damage", "known", "side"), DAMAGE.values(), ids=DAMAGE)
def test_a_base_volume_that_holds_something_else_is_neither_used_nor_overwritten(
    here, pool, image, digests, tmp_path, damage, known
):
    made = provided(here, pool, image, digests if known else Digests(tmp_path / "colleague's"))
    damage(Path(made.path))
    before = Path(made.path).read_bytes()
    with pytest.raises(RequestRefusedError, match="does not hold what it was made of") as refusal:
        provided(here, pool, image, digests)
    assert Path(made.path).read_bytes() == before
    # As it says.
    command = shlex.split(refusal.value.hint.partition("virsh ")[2])
    subprocess.run(["virsh", "-q", *command], check=True)
    assert same_bytes(image, provided(here, pool, image, digests).path)


@SIDES
def test_what_only_looks_damaged_is_used(here, pool, tmp_path, digests):
    """The zeros of the image took space, those of the volume do not any more."""
    image = tmp_path / "image.img"
    image.write_bytes(random.Random(1).randbytes(MIB) + bytes(MIB) + b"x" * MIB)
    made = provided(here, pool, image, digests)
    again = Path(made.path).with_name("again")
    subprocess.run(["cp", "--sparse=always", made.path, again], check=True)
    again.replace(made.path)
    assert provided(here, pool, image, digests).path == made.path


@SIDES
def test_two_builds_of_one_item_are_two_base_volumes(here, pool, image, digests):
    first = provided(here, pool, image, digests)
    kept = Path(first.path).read_bytes()
    rebuilt(image)
    second = provided(here, pool, image, digests)
    assert first.name != second.name
    assert Path(first.path).read_bytes() == kept
    assert same_bytes(image, second.path)


@SIDES
def test_what_is_lost_on_the_way_is_no_volume(here, pool, image):
    name = "pyguixvm-web.g1.qcow2"

    def lose(event):
        if isinstance(event, PhaseProgress) and event.done == event.total:
            os.truncate(Path(pool.path) / name, 0)
            os.truncate(Path(pool.path) / name, 32 * MIB)

    # More than may be under way when some of it is lost.
    image.write_bytes(random.Random(3).randbytes(32 * MIB))
    with pytest.raises(HypervisorError, match="does not hold what was sent"):
        upload.upload_volume(here, pool.name, name, image, lose)
    assert volumes.list_ours(here, pool.name) == ()


def test_a_base_volume_that_is_damaged_while_it_is_sent_is_none(connection, pool, image, digests):
    def damage(event):
        if isinstance(event, PhaseProgress) and event.phase == "transfer":
            (volume,) = Path(pool.path).glob("*.img")
            with volume.open("r+b") as file:
                file.write(b"another")

    with pytest.raises(HypervisorError, match=r"does not hold what .* holds"):
        provided(connection, pool, image, digests, damage)
    assert volumes.list_ours(connection, pool.name) == ()


@SIDES
@pytest.mark.parametrize(
    ("size", "data"),
    [
        (0, []),
        (1, [(0, 1)]),
        (64 * MIB, []),
        (9 * MIB + 17, [(0, 9 * MIB + 17)]),
        (64 * MIB + 5, [(MIB // 2, 3 * MIB), (40 * MIB, 5 * MIB + 3)]),
        (33 * MIB, [(32 * MIB, MIB)]),
    ],
)
def test_what_a_volume_holds_is_told_from_elsewhere_too(here, pool, tmp_path, size, data):
    source = sparse_file(tmp_path / "source", size, data)
    volume = upload.upload_volume(here, pool.name, "pyguixvm-web.g1.qcow2", source, ignore)
    with source.open("rb") as file:
        assert download.content(here, volume) == content_of(file)
        for offset, length in data:
            part = os.pread(file.fileno(), length, offset)
            assert download.data(here, volume, offset, length) == part


def test_a_base_volume_is_as_private_as_an_image_can_be_and_two_guests_run_on_it(
    connection, pool, tmp_path, defined, a_machine
):
    image = sparse_file(tmp_path / "image.img", 8 * MIB, [(MIB, MIB)])
    image.chmod(0o600)
    base = provided(connection, pool, image, Digests(tmp_path / "state"))
    backing = (BackingFile(path=base.path, format="raw", store_item=False),)
    domains = []
    for number in (1, 2):
        file = tmp_path / f"root{number}"
        overlay.create_unsafe(Path(base.path), "raw", file, 16 * MIB)
        root = upload.upload_volume(
            connection, pool.name, f"pyguixvm-some.g{number}.qcow2", file, ignore
        )
        machine = a_machine(memory=64 * MIB, maximum_memory=64 * MIB)
        defined(machine, root=root.path, backing=backing, root_format="qcow2")
        domains.append(connection.handle.lookupByName(machine.name))
    before = Path(base.path).stat()
    for domain in domains:
        domain.create()
    assert [domain.isActive() for domain in domains] == [1, 1]
    # Where it is, a reader of the XML knows, but not what it holds.
    others = subprocess.run(
        ["cat", base.path],
        user="nobody",
        group="nogroup",
        extra_groups=(),
        capture_output=True,
        check=False,
    )
    assert b"Permission denied" in others.stderr
    domains[0].destroy()
    domains[0].create()
    after = Path(base.path).stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert same_bytes(image, Path(base.path))


def test_the_copy_of_a_store_item_is_for_all_to_read(connection, pool, digests):
    item = next(path for path in Path("/gnu/store").iterdir() if path.is_file())
    base = provided(connection, pool, item, digests)
    assert Path(base.path).stat().st_mode & 0o777 == 0o444


# --- machines ----------------------------------------------------------------


@pytest.fixture
def boot_image(tmp_path):
    """Return an image whose guest says a word and halts."""
    path = tmp_path / "boot.raw"
    path.write_bytes(halting().ljust(12 * MIB, b"\0") + b"end")
    return path


@pytest.fixture
def declare(connection, pool, a_machine, boot_image):
    """Declare machines with that image; they go at the end."""
    made = []

    def declared():
        machine = a_machine(memory=64 * MIB, maximum_memory=64 * MIB, pool=pool.name)
        machine = with_image(msgspec.structs.replace(machine, ready=()), boot_image)
        made.append(machine.name)
        return machine

    yield declared
    for name in made:
        domain = connection.handle.lookupByName(name)
        if domain.isActive():
            domain.destroy()
        domain.undefine()


def base_of(connection, machine):
    return domains.read_metadata(connection, machine.name).generation.base


def test_an_image_that_changed_and_does_not_look_it_is_another_base_volume(
    connection, pool, declare, boot_image
):
    one, other = declare(), declare()
    assert deploy(connection, one) is None
    times = boot_image.stat()
    with boot_image.open("r+b") as file:
        file.seek(MIB)
        file.write(b"other")
    os.utime(boot_image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert deploy(connection, other) is None
    first, second = base_of(connection, one), base_of(connection, other)
    assert first != second
    assert same_bytes(boot_image, Path(pool.path) / second)
    assert not same_bytes(boot_image, Path(pool.path) / first)


def test_a_machine_is_not_laid_on_a_damaged_base_and_what_runs_stays(
    connection, pool, declare, boot_image
):
    one, other = declare(), declare()
    assert deploy(connection, one) is None
    cut_short(Path(pool.path) / base_of(connection, one))
    before = volumes.list_ours(connection, pool.name)
    error = deploy(connection, other)
    assert "does not hold what it was made of" in error.message
    assert volumes.list_ours(connection, pool.name) == before
    # What needs no new root has no use for it.
    assert deploy(connection, changed(one, title="changed")) is None
    assert deploy(connection, with_image(other, another(boot_image))) is None
    assert base_of(connection, other) != base_of(connection, one)


def another(image):
    path = image.with_name("another.raw")
    path.write_bytes(image.read_bytes())
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(b"another")
    return path


def test_an_image_that_changes_meanwhile_is_refused_and_nothing_is_left(
    connection, pool, declare, boot_image
):
    def change(event):
        if isinstance(event, PhaseStarted) and event.phase == "transfer":
            boot_image.touch()

    machine = declare()
    error = deploy(connection, machine, change)
    assert "changed while it was used" in error.message
    assert all(is_base(volume.name) for volume in volumes.list_ours(connection, pool.name))
    assert not domains.exists(connection, machine.name)
    assert deploy(connection, machine) is None


def effect(here, machine):
    """Return what deploying MACHINE would take, and what differs, as `plan` and `status` say."""
    with observed(here, [machine]) as (seen,):
        (plan,) = seen.plan.machines
    (found,) = statuses(here, [machine], None)
    assert found.differences == plan.differences
    return plan.effect, [each.path for each in plan.differences]


def test_a_plan_is_not_fooled_by_an_image_that_looks_as_before(
    connection, declare, boot_image, tmp_path
):
    here = session(tmp_path)
    machine = declare()
    assert deploy(connection, machine) is None
    assert effect(here, machine) == ("none", [])
    status = boot_image.stat()
    with boot_image.open("r+b") as file:
        file.seek(1024)
        file.write(b"another")
    os.utime(boot_image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert effect(here, machine) == ("replace", ["image.holds"])
    # What it is to be is asked again when the lock is held.
    with observed(here, [machine]) as (seen,):
        assert seen.again(machine.name).effect == "replace"
    with observed(here, [machine], policy=Policy(force=True, stop_timeout=1)) as planned:
        (outcome,) = commands_deploy.deploy(here, Path("config.scm"), planned)
    assert outcome.error is None
    assert effect(here, machine) == ("none", [])
