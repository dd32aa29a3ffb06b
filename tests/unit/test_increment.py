# SPDX-License-Identifier: GPL-3.0-or-later
"""Increments on small real file systems: what is written, and that nothing else is."""

from __future__ import annotations

import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import MIB, check_file_system, digest, last_partition, make_system_image

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image import store_database
from pyguixvm.image.increment import Base, examine, increment
from pyguixvm.image.overlay import ImageError
from pyguixvm.model.image import Derivation, ImageContent
from pyguixvm.model.store_item import StoreItem
from pyguixvm.process import run

UUID = "0b0e3c4e-1fd6-4b6f-9f0e-6b1b3d6f2a11"
PRESENT = {f"/gnu/store/{'a' * 32}-old": 10 * MIB, f"/gnu/store/{'b' * 32}-older": MIB}
SIZE = 64 * MIB


def content(directory: Path) -> ImageContent:
    boot = directory / "grub.cfg"
    boot.write_text("new")
    return ImageContent(
        layout="layout",
        root_uuid=UUID,
        system=Derivation("/gnu/store/new-system.drv", "/gnu/store/new-system"),
        boot_configuration=Derivation("/gnu/store/grub.cfg.drv", str(boot)),
        boot_configuration_file="/boot/grub/grub.cfg",
    )


def item(path: Path, *references: str) -> StoreItem:
    return StoreItem(str(path), "sha256:00", 1234, references)


def shown(directory: Path, file: Path) -> Path:
    """Return a directory with what the root file system in the overlay FILE holds."""
    raw = directory / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", file, raw], check=True)
    where = last_partition(raw)
    check_file_system(raw, where)
    tree = directory / "tree"
    tree.mkdir()
    run(["debugfs", "-R", f'rdump / "{tree}"', f"{raw}?offset={where.offset}"])
    assert UUID in run(["debugfs", "-R", "stats -h", f"{raw}?offset={where.offset}"]).text
    return tree


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return examine(make_system_image(tmp_path, PRESENT), tmp_path)


def test_what_a_base_lists_is_known(base: Base) -> None:
    assert base.registered.items == PRESENT.keys()
    assert base.registered.size == 11 * MIB


def test_an_increment_has_items_registration_profile_and_boot_configuration(
    base: Base, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    tree = store / "new-tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "program").write_bytes(b"#!" + bytes(3 * MIB) + b"end")
    (tree / "bin" / "program").chmod(0o555)
    (tree / "empty").mkdir()
    (tree / "long").symlink_to("/gnu/store/" + "x" * 200)
    text = store / "new-text"
    text.write_text("text")
    text.chmod(0o444)
    before = digest(base.path)
    old = f"/gnu/store/{'a' * 32}-old"
    items = [item(tree, str(text), old, str(tree)), item(text)]
    increment(base, tmp_path / "overlay", SIZE, content(tmp_path), items)
    assert digest(base.path) == before

    root = shown(tmp_path, tmp_path / "overlay")
    made = root / "gnu/store/new-tree"
    assert (made / "bin/program").read_bytes() == (tree / "bin/program").read_bytes()
    assert (made / "long").readlink() == (tree / "long").readlink()
    assert list((made / "empty").iterdir()) == []
    statuses = {name: (made / name).lstat() for name in (".", "bin", "bin/program", "empty")}
    assert {status.st_mtime for status in statuses.values()} == {1.0}
    assert (made / "bin/program").stat().st_mode & 0o777 == 0o555
    assert (root / "gnu/store/new-text").stat().st_mode & 0o777 == 0o444
    assert (root / "var/guix/profiles/system-1-link").readlink() == Path("/gnu/store/new-system")
    assert (root / "boot/grub/grub.cfg").read_text() == "new"
    with sqlite3.connect(root / store_database.FILE[1:]) as connection:
        rows = connection.execute("select path, hash, registrationTime, deriver from ValidPaths")
        listed = {row[0]: row[1:] for row in rows}
        references = connection.execute(
            "select a.path, b.path from Refs, ValidPaths a, ValidPaths b"
            " where a.id = referrer and b.id = reference"
        ).fetchall()
    assert listed.keys() == {*PRESENT, str(tree), str(text)}
    assert listed[str(tree)] == ("sha256:00", 1, None)
    assert set(references) == {(str(tree), str(text)), (str(tree), old), (str(tree), str(tree))}


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in {".", ".."} and len(name.encode()) < 100)
TREES: st.SearchStrategy[Mapping[str, object]] = st.recursive(
    st.dictionaries(NAMES, st.binary(max_size=3000), max_size=4),
    lambda children: st.dictionaries(NAMES, children, max_size=4),
    max_leaves=6,
)


def write(tree: object, path: Path) -> None:
    if isinstance(tree, dict):
        path.mkdir()
        for name, child in tree.items():
            write(child, path / name)
    elif isinstance(tree, bytes):
        path.write_bytes(tree)


def read(path: Path) -> object:
    if path.is_dir():
        return {child.name: read(child) for child in path.iterdir()}
    return path.read_bytes()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=TREES)
def test_any_tree_arrives_whatever_its_names(base: Base, tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "store").mkdir()
        write(tree, directory / "store" / "tree")
        here = examine(base.path, directory)
        items = [item(directory / "store" / "tree")]
        increment(here, directory / "overlay", SIZE, content(directory), items)
        root = shown(directory, directory / "overlay")
        assert read(root / "gnu/store/tree") == tree


def test_without_room_nothing_is_left(base: Base, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 60 * MIB)
    with pytest.raises(RequestRefusedError, match="no room"):
        increment(base, tmp_path / "overlay", 40 * MIB, content(tmp_path), [item(large)])
    assert not (tmp_path / "overlay").exists()


def test_a_smaller_storage_than_the_base_is_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(RequestRefusedError, match="smaller than the image"):
        increment(base, tmp_path / "overlay", MIB, content(tmp_path), [])


def test_a_reference_that_is_nowhere_is_an_error(base: Base, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.touch()
    with pytest.raises(ImageError, match="database"):
        increment(
            base, tmp_path / "overlay", SIZE, content(tmp_path), [item(text, "/gnu/store/none")]
        )
    assert not (tmp_path / "overlay").exists()


def test_an_image_without_a_system_is_told(tmp_path: Path) -> None:
    file = tmp_path / "root"
    with pytest.raises(ImageError):
        examine(make_without_system(file), tmp_path)


def make_without_system(file: Path) -> Path:
    with file.open("wb") as image:
        image.truncate(16 * MIB)
    run(["sfdisk", "-q", "--no-tell-kernel", str(file)], stdin=b"label: dos\n2048,+,L\n")
    return file
