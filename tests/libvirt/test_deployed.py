# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that earlier versions deployed go on: their domains as virsh dumped them then."""

import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import libvirt
import pytest
from boot_sector import halting, halting_kernel
from deploying import changed, deploy, planned, session, with_image

from pyguixvm.commands import garbage, generations, listing, rollback, undefine
from pyguixvm.commands.status import applied_statuses
from pyguixvm.digest.content import content_of
from pyguixvm.hypervisor import domains, pools, volumes
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.volume_names import base_volume
from pyguixvm.plan.plan import Policy
from pyguixvm.xml import metadata as our_metadata
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.text import parse, render

DEPLOYED = sorted((Path(__file__).parent / "deployed/1").glob("*.xml"))
IMAGES = "/var/lib/libvirt/images"
MIB = 1024**2
# What its own declaration still asks for: what was broken off, and what is beside the XML.
TO_DO = {"in-place-broken-off": ["activation"], "shared-store": ["domain.autostart"]}


def by_name(path):
    return path.stem


class Bygone:
    """A domain of an earlier version, moved to POOL, with volumes that hold next to nothing."""

    def __init__(self, connection, pool, path, directory):
        self.image = directory / "image.raw"
        self.image.write_bytes(halting())
        with self.image.open("ab") as file:
            file.truncate(16 * MIB)
        xml = path.read_text().replace(IMAGES, pool.path).replace("/srv/shared", str(directory))
        xml = xml.replace('"pool":"default"', f'"pool":"{pool.name}"')
        xml = re.sub(r'"ready":\[[^]]*\]', '"ready":[]', xml)
        # A store holds what was deployed then only by chance.
        xml = re.sub(r"/gnu/store/[a-z0-9]{32}-disk-image", str(self.image), xml)
        xml = re.sub(
            r"/gnu/store/[a-z0-9]{32}-(system|linux-libre)[-0-9.]*(?=[/\s\"])",
            f"{directory}/\\1",
            xml,
        )
        for file in (directory / "linux-libre/bzImage", directory / "system/initrd"):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(halting_kernel())
        domain = parse(xml)
        # What the roots stand on is not here: they are whole.
        for below in domain.iter("backingStore"):
            below.clear()
        self.metadata = our_metadata.read_metadata(domain)
        self.machine = self.metadata.generation.declaration
        self.name = self.machine.name
        self._make_volumes(Path(pool.path))
        for mount in self.machine.domain.mount_points:
            Path(mount.source).mkdir(exist_ok=True)
        pools.ensure_pool(connection, pool.name)
        connection.handle.storagePoolLookupByName(pool.name).refresh()
        self.handle = connection.handle.defineXML(render(domain))

    def _make_volumes(self, directory):
        for generation in self.metadata.generations:
            if generation.base:
                shutil.copy(self.image, directory / generation.base)
            *below, volume = reversed(generation.volumes)
            options = ["-b", directory / below[-1]] if below else ["-b", self.image]
            kind = ["-F", "qcow2" if below else "raw"]
            self._qemu_img("create", "-f", "qcow2", *options, *kind, directory / volume)
            if not below:
                self._qemu_img("rebase", "-f", "qcow2", "-b", "", directory / volume)
        for disk in self.machine.domain.disks:
            volume = directory / f"pyguixvm-{self.name}.{disk.name}.qcow2"
            self._qemu_img("create", "-f", "qcow2", volume, str(disk.size))

    def _qemu_img(self, *command):
        subprocess.run(["qemu-img", *map(str, command)], check=True, stdout=subprocess.DEVNULL)

    @property
    def schema(self):
        domain = parse(self.handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        return domain.find(f"metadata/{{{our_metadata.NAMESPACE}}}machine").get("schema")

    def remove(self):
        for step in (self.handle.destroy, self.handle.undefine):
            with suppress(libvirt.libvirtError):
                step()


@pytest.fixture
def bygone(connection, pool):
    made = []
    # Where QEMU's user may look for directories.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)

        def define(path):
            made.append(Bygone(connection, pool, path, Path(directory)))
            return made[-1]

        yield define
        for each in made:
            each.remove()


@pytest.mark.parametrize("path", DEPLOYED, ids=by_name)
def test_a_machine_of_before_is_seen_as_it_was(connection, bygone, tmp_path, path):
    old = bygone(path)
    found = observe(connection).domains[old.name]
    assert (found.unreadable, found.metadata) == (None, old.metadata)
    (status,) = applied_statuses(session(tmp_path), [old.name])
    assert status.generation == old.metadata.current
    listed = generations.generations(session(tmp_path), [old.name])
    assert [each.number for each in listed] == list(old.metadata.numbers)
    assert all(each.size is not None for each in listed)
    differences = [each.path for each in planned(connection, old.machine).differences]
    assert differences == TO_DO.get(path.stem, [])
    assert old.schema == "1"


@pytest.mark.parametrize("path", DEPLOYED, ids=by_name)
def test_a_machine_of_before_goes_on_and_is_remembered_anew(
    connection, bygone, pool, tmp_path, path
):
    old = bygone(path)
    if old.metadata.previous:
        outcome = rollback.roll_back(session(tmp_path), old.name, None, Policy())
        assert outcome.error is None
        expected = old.metadata.previous.number
    else:
        expected = old.metadata.current
        titled = changed(old.machine, title="changed")
        assert deploy(connection, titled) is None
    now = domains.read_metadata(connection, old.name)
    assert (old.schema, now.uuid) == ("2", old.handle.UUIDString())
    assert (now.current, now.numbers) == (expected, old.metadata.numbers)
    waste = garbage.unneeded(session(tmp_path), keep=9, older_than=timedelta(0))
    assert (waste.generations, waste.volumes) == ((), ())
    (removal,) = undefine.removals(session(tmp_path), [old.name], keep_volumes=False)
    undefine.undefine(session(tmp_path), [removal])
    assert not domains.exists(connection, old.name)
    assert {volume.name for volume in volumes.list_ours(connection, pool.name)} == {
        *(f"pyguixvm-{old.name}.{disk.name}.qcow2" for disk in old.machine.domain.disks),
        *(each.base for each in old.metadata.generations if each.base),
    }


def test_a_record_that_is_damaged_is_the_trouble_of_its_machine_alone(
    connection, bygone, pool, tmp_path
):
    well = bygone(next(path for path in DEPLOYED if path.stem == "one-generation")).machine
    old = bygone(next(path for path in DEPLOYED if path.stem == "several-generations"))
    damaged = our_metadata.metadata_xml(old.metadata).replace("<history>", "<history>?")
    old.handle.setMetadata(2, damaged, our_metadata.PREFIX, our_metadata.NAMESPACE, 2)
    # In the making, or broken off: nobody can tell any more.
    marker = Path(pool.path) / f"pyguixvm-{old.name}.g2.qcow2.partial"
    marker.touch()
    connection.handle.storagePoolLookupByName(pool.name).refresh()
    found = observe(connection).domains
    assert "damaged metadata" in found[old.name].unreadable
    assert found[well.name].metadata is not None
    listed = {each.name: each for each in listing.listed(session(tmp_path), everything=False)}
    assert {well.name, old.name} <= set(listed)
    assert {each.name for each in applied_statuses(session(tmp_path), [])} >= {well.name, old.name}
    assert {each.machine for each in generations.generations(session(tmp_path), [])} == {well.name}
    waste = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
    assert (waste.generations, waste.volumes) == ((), ())
    assert deploy(connection, changed(well, title="changed")) is None
    assert observe(connection).domains[well.name].defined.plain["title"] == "changed"


def test_a_generation_whose_volume_is_gone_is_forgotten_at_the_next_definition(
    connection, bygone, pool
):
    old = bygone(next(path for path in DEPLOYED if path.stem == "several-generations"))
    volumes.delete(connection, pool.name, f"pyguixvm-{old.name}.g1.qcow2")
    assert deploy(connection, changed(old.machine, title="changed")) is None
    assert domains.read_metadata(connection, old.name).numbers == (2,)


def test_a_base_volume_of_before_is_kept_for_its_generation_and_the_next_has_its_own(
    connection, bygone, pool, tmp_path
):
    old = bygone(next(path for path in DEPLOYED if path.stem == "local-image"))
    (first,) = old.metadata.generations
    former = Path(pool.path) / first.base
    held, written = former.read_bytes(), former.stat().st_mtime_ns
    image = tmp_path / "another.raw"
    image.write_bytes(old.image.read_bytes())
    assert deploy(connection, with_image(old.machine, image)) is None
    second = domains.read_metadata(connection, old.name).generation
    with image.open("rb") as file:
        assert second.base == base_volume(content_of(file).digest)
    waste = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
    assert [each.name for each in waste.volumes if each.pool == pool.name] == []
    # Its guest hears no button.
    old.handle.destroy()
    outcome = rollback.roll_back(session(tmp_path), old.name, first.number, Policy())
    assert outcome.error is None
    now = domains.read_metadata(connection, old.name)
    assert (now.generation.base, now.find(second.number).base) == (first.base, second.base)
    root = inspect_domain(old.handle.XMLDesc()).hardware.disks[0]
    assert root.endswith(first.volume)
    # Nobody wrote to it, nor made it anew.
    assert (former.read_bytes(), former.stat().st_mtime_ns) == (held, written)
