# SPDX-License-Identifier: GPL-3.0-or-later
"""Root volumes in a pool: increments on a base that is there, and whole images otherwise."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import timedelta

import msgspec
import pytest
from images import make_image, make_system_image

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.root_volume import created_root
from pyguixvm.commands.garbage import unneeded
from pyguixvm.commands.session import Session
from pyguixvm.digest.memory import Digests
from pyguixvm.events import Notice, PhaseFinished, ignore
from pyguixvm.guix.request import Exchange
from pyguixvm.guix.roots import Roots
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import volumes
from pyguixvm.image.overlay import ImageError
from pyguixvm.model.image import Derivation, ImageContent, SystemImage
from pyguixvm.model.volume_names import base_volume, generation_volume, is_base
from pyguixvm.plan.actions import CreateRoot, RealizeImage

MIB = 1024**2
# The same libvirtd as another machine's.
ELSEWHERE = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"
PRESENT = {f"/gnu/store/{'a' * 32}-old": 20 * MIB}


class Guix(Exchange):
    """Says that ITEMS are what the base lacks, and builds what it is asked for by WHOLE."""

    def __init__(self, items, whole):
        self.items = items
        self.whole = whole
        self.asked = []

    def ask(self, command, request, *, forward, seconds):
        assert seconds > 0
        forward(b"")
        self.asked.append((command, request))
        if command == "realize":
            self.whole.rename(self.whole.with_suffix(""))
        return json.dumps({"realized": True, "items": self.items}).encode()


@pytest.fixture
def base(tmp_path):
    directory = tmp_path / "base"
    directory.mkdir()
    return make_system_image(directory, PRESENT)


@pytest.fixture
def whole(tmp_path):
    """An image that is not built yet: what stands for its content has another name."""
    directory = tmp_path / "whole"
    directory.mkdir()
    image = directory / "image.later"
    make_image(directory).rename(image)
    return image


@pytest.fixture
def make(pool, a_machine, base, whole, tmp_path):
    """Return a function that makes the root volume of a generation that changed by SIZE bytes.

    With LINK, it is a symbolic link to that.
    """

    def made(connection, number, size, base=base, link=None):
        text = tmp_path / "text"
        if link is None:
            text.write_text(f"edition {number}")
            text.chmod(0o444)
        else:
            text.symlink_to(link)
        boot = tmp_path / "grub.cfg"
        boot.write_text("boot")
        machine = a_machine(pool=pool.name)
        image = SystemImage("web", "GNU", "linux", "mbr-hybrid-raw")
        machine = msgspec.structs.replace(machine, image=image)
        action = CreateRoot(
            pool=pool.name,
            volume=generation_volume(machine.name, number),
            image=str(base),
            size=64 * MIB,
            content=ImageContent(
                layout="layout",
                root_uuid="0b0e3c4e-1fd6-4b6f-9f0e-6b1b3d6f2a11",
                system=Derivation("/gnu/store/s.drv", "/gnu/store/s"),
                boot_configuration=Derivation("/gnu/store/g.drv", str(boot)),
                boot_configuration_file="/boot/grub/grub.cfg",
            ),
            whole=RealizeImage(derivation="/gnu/store/i.drv", output=str(whole.with_suffix(""))),
        )
        item = {"path": str(text), "hash": "sha256:00", "nar-size": size, "references": []}
        events = []
        guix = Guix([item], whole)
        store = Store(lambda: guix, events.append)
        workshop = Workshop(
            connection, events.append, {}, store, roots=Roots(tmp_path / "gc-roots")
        )
        with created_root(machine, action, workshop) as root:
            pass
        return root, guix, events

    return made


def bases_sent(events):
    """Return what was told of base volumes that travelled."""
    finished = [e for e in events if isinstance(e, PhaseFinished) and e.phase == "transfer"]
    return [e.detail for e in finished if e.detail.startswith("base volume")]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_increment_stands_on_the_image_in_the_store(connection, make, base):
    before = digest(base)
    root, guix, _ = make(connection, 2, MIB)
    assert (root.image, root.base, root.increment) == (str(base), None, MIB)
    (below,) = root.backing
    assert (below.path, below.store_item) == (str(base), True)
    ((command, request),) = guix.asked
    assert command == "items"
    assert request["present"] == "a" * 32
    assert request["wanted"][0] == "/gnu/store/s"
    check = subprocess.run(["qemu-img", "check", root.path], capture_output=True, check=False)
    assert check.returncode == 0, check.stdout
    assert digest(base) == before


def test_elsewhere_the_base_travels_once_and_then_only_what_changed(
    elsewhere, pool, make, base, tmp_path
):
    first, _, events = make(elsewhere, 1, MIB)
    assert first.base == base_volume(Digests(tmp_path / "state").of(base).digest)
    assert len(bases_sent(events)) == 1
    second, _, events = make(elsewhere, 2, MIB)
    assert second.base == first.base
    assert bases_sent(events) == []
    names = [volume.name for volume in volumes.list_ours(elsewhere, pool.name)]
    assert len([name for name in names if is_base(name)]) == 1
    # No machine has these roots, as after undefine --keep-volumes: gc leaves the base to them.
    for root in (first, second):
        assert volumes.base(elsewhere, pool.name, root.volume) == first.base
    assert volumes.base(elsewhere, pool.name, first.base) is None
    session = Session(ELSEWHERE, (), {"HOME": "/nonexistent"}, ignore, sys.stderr.buffer.write)
    found = unneeded(session, keep=0, older_than=timedelta(0)).volumes
    assert [volume for volume in found if volume.pool == pool.name] == []


def compressed_clusters(root):
    command = ["qemu-img", "check", "--output=json", root.path]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert "corruptions" not in found
    return found.get("compressed-clusters", 0)


def test_what_goes_over_a_line_is_compressed_before(connection, elsewhere, make):
    assert compressed_clusters(make(connection, 1, MIB)[0]) == 0
    assert compressed_clusters(make(elsewhere, 2, MIB)[0]) > 0


def test_what_cannot_be_compressed_is_sent_as_it_is(elsewhere, make, monkeypatch):
    def full(*_):
        raise ImageError("no space left on device")

    monkeypatch.setattr("pyguixvm.apply.root_volume.overlay.compress", full)
    assert compressed_clusters(make(elsewhere, 1, MIB)[0]) == 0


def test_more_than_half_of_the_base_is_a_whole_image(connection, make, whole, tmp_path):
    root, guix, events = make(connection, 3, 11 * MIB)
    image = str(whole.with_suffix(""))
    assert (root.image, root.increment, root.backing[0].path) == (image, None, image)
    command, request = guix.asked[-1]
    assert (command, request["derivations"]) == ("realize", ["/gnu/store/i.drv"])
    # It is kept from the garbage collector before it is defined.
    assert request["roots"] == {str(Roots(tmp_path / "gc-roots").claim(image)): image}
    told = [e.detail for e in events if isinstance(e, PhaseFinished) and e.phase == "grow"]
    assert told[0] == "too much has changed for an increment"


@pytest.mark.parametrize(
    ("became", "told"),
    [
        (lambda base: os.truncate(base, 65 * MIB), "is larger than the declared storage"),
        (lambda base: base.unlink(), "was collected"),
    ],
)
def test_what_became_of_an_image_that_is_nobodys_refuses_nothing(
    connection, make, base, whole, became, told
):
    """It may have been made for a machine with more storage."""
    became(base)
    root, _, events = make(connection, 6, MIB)
    assert (root.image, root.increment) == (str(whole.with_suffix("")), None)
    details = [event.detail for event in events if isinstance(event, PhaseFinished)]
    assert f"the image that it was to stand on {told}" in details


def test_a_base_that_is_none_of_guixs_is_told_and_a_whole_image_made(
    connection, make, whole, tmp_path
):
    directory = tmp_path / "other"
    directory.mkdir()
    root, _, events = make(connection, 4, MIB, base=make_image(directory))
    assert (root.image, root.increment) == (str(whole.with_suffix("")), None)
    (warning,) = [event.message for event in events if isinstance(event, Notice)]
    assert warning.startswith("a whole image is made, since debugfs")


def test_an_item_that_is_a_command_in_disguise_is_told_and_a_whole_image_made(
    connection, make, whole, tmp_path
):
    outside = tmp_path / "outside"
    hostile = f"x\ndump /boot/grub/grub.cfg {outside}\n!touch {outside}\n\x1b[2J"
    root, _, events = make(connection, 5, MIB, link=hostile)
    assert (root.image, root.increment) == (str(whole.with_suffix("")), None)
    assert not outside.exists()
    (warning,) = [event.message for event in events if isinstance(event, Notice)]
    assert f"debugfs cannot be told of {tmp_path / 'text'}" in warning
    assert warning.isprintable()
