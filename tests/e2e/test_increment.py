# SPDX-License-Identifier: GPL-3.0-or-later
"""An increment holds what Guix's own image of the same system holds, file by file.

That it boots is shown where a machine changes, in ``test_change``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
from running import CONFIGS

from pyguixvm.commands import evaluate
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.image import increment as increments
from pyguixvm.image import overlay, partition, store_database
from pyguixvm.model.image import SystemImage

CONFIG = CONFIGS / "change.scm"
SIZE = 5 * 1024**3
STORE = "gnu/store"

# Mode, owner and group, and what identifies a file's content.
File: TypeAlias = tuple[int, int, int, int | None, str]

# Something of all that may change, and much of it.
EDITED = {"EDITION": "two", "SERVICES": "greeting"}
ALL_EDITED = {
    "EDITION": 'ü "quoted"\n',
    "PACKAGES": "dosfstools btrfs-progs",
    "SERVICES": "greeting farewell",
    "ARGUMENTS": "quiet",
    "USERS": "ada charles",
}


def evaluated(edit: Mapping[str, str]) -> tuple[Session, SystemImage]:
    session = Session(
        uri=None,
        options=(),
        environment={**os.environ, **{f"PYGUIXVM_TEST_{k}": v for k, v in edit.items()}},
        emit=ignore,
        forward=sys.stderr.buffer.write,
    )
    (machine,) = evaluate.evaluate(session, CONFIG, want="images").machines
    assert isinstance(machine.image, SystemImage)
    return session, machine.image


def built(edit: Mapping[str, str]) -> tuple[Session, SystemImage, Path]:
    """Have Guix make the whole image of the edited system."""
    session, image = evaluated(edit)
    assert image.derivation
    assert image.output
    session.store.realize({image.derivation: image.output}, {})
    return session, image, Path(image.output)


@pytest.fixture(scope="module")
def base() -> Path:
    _, _, path = built({})
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(raw: Path, directory: Path) -> Iterator[tuple[str, File]]:
    """Yield each file of the root file system in the image RAW, by its name."""
    where = partition.read(raw).last
    directory.mkdir()
    subprocess.run(
        ["debugfs", "-R", f'rdump / "{directory}"', f"{raw}?offset={where.offset}"],
        check=True,
        capture_output=True,
    )
    for path in sorted(directory.rglob("*")):
        name, status = str(path.relative_to(directory)), path.lstat()
        modified = int(status.st_mtime) if name.startswith(f"{STORE}/") else None
        if path.is_symlink():
            # debugfs does not set the time of links.
            content, modified = str(path.readlink()), None
        elif path.is_file():
            content = digest(path)
        else:
            content = ""
        if name != store_database.FILE[1:]:
            yield name, (status.st_mode, status.st_uid, status.st_gid, modified, content)


def database(directory: Path) -> dict[str, tuple[object, ...]]:
    """Return what the database of store items in the tree at DIRECTORY says of each."""
    with sqlite3.connect(directory / store_database.FILE[1:]) as connection:
        names = dict(connection.execute("select id, path from ValidPaths"))
        references: dict[int, set[str]] = {number: set() for number in names}
        for referrer, reference in connection.execute("select referrer, reference from Refs"):
            references[referrer].add(names[reference])
        rows = connection.execute(
            "select id, path, hash, registrationTime, deriver, narSize from ValidPaths"
        )
        return {row[1]: (*row[2:], references[row[0]]) for row in rows}


def identity(raw: Path) -> dict[str, str]:
    """Return what the root file system in RAW is called by."""
    where = partition.read(raw).last
    shown = subprocess.run(
        ["debugfs", "-R", "stats -h", f"{raw}?offset={where.offset}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    fields = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
    return {
        key: fields[key].strip()
        for key in ("Filesystem UUID", "Filesystem volume name", "Filesystem state")
    }


@pytest.mark.parametrize("edit", [EDITED, ALL_EDITED], ids=["some", "all"])
def test_an_increment_is_what_a_whole_image_would_be(
    base: Path, tmp_path: Path, edit: dict[str, str]
) -> None:
    before = digest(base)
    session, image, whole = built(edit)
    content = image.content
    assert content is not None
    examined = increments.examine(base, tmp_path)
    items = session.store.items_beyond(
        examined.registered.items, [content.system.output, content.boot_configuration.output]
    )
    increments.increment(examined, tmp_path / "overlay", SIZE, content, items)
    overlay.check(tmp_path / "overlay")
    overlay.convert_to_raw(tmp_path / "overlay", "qcow2", tmp_path / "raw")
    assert digest(base) == before

    expected = dict(tree(whole, tmp_path / "whole"))
    found = dict(tree(tmp_path / "raw", tmp_path / "incremental"))
    different = {name for name, file in expected.items() if found.get(name) != file}
    assert not {name: (expected[name], found.get(name)) for name in different}
    # What is there besides is the base's.
    rest = {name.split("/")[2] for name in found.keys() - expected.keys()}
    assert rest <= {item.removeprefix("/gnu/store/") for item in examined.registered.items}
    ours, guixs = database(tmp_path / "incremental"), database(tmp_path / "whole")
    assert guixs == {item: ours.get(item) for item in guixs}
    assert ours.keys() - guixs.keys() <= examined.registered.items
    assert identity(tmp_path / "raw") == identity(whole)
    check(tmp_path / "raw")
    shutil.rmtree(tmp_path)


def test_an_assembled_image_is_guixs_own(tmp_path: Path) -> None:
    session, image, whole = built(EDITED | {"NAMES": "odd"})
    assert image.content
    assembled = image.content.assembled
    assert assembled
    session.store.realize({assembled.derivation: assembled.output}, {})
    raw = Path(assembled.output)
    ours, guixs = partition.read(raw), partition.read(whole)
    # The size of the root is an estimate, which counts what directories take where they are.
    assert ours.last.size == pytest.approx(guixs.last.size, rel=0.01)
    assert ours.partitions[:-1] == guixs.partitions[:-1]
    assert (ours.label, ours.last.offset) == (guixs.label, guixs.last.offset)
    assert boot_loader(raw) == boot_loader(whole)
    assert dict(tree(raw, tmp_path / "ours")) == dict(tree(whole, tmp_path / "guixs"))
    assert database(tmp_path / "ours") == database(tmp_path / "guixs")
    assert identity(raw) == identity(whole)
    link = tmp_path / "raw"
    link.symlink_to(raw)
    check(link)


def boot_loader(raw: Path) -> tuple[bytes, bytes]:
    """Return the code in the first sector of RAW, and what is between it and the partitions."""
    with raw.open("rb") as file:
        before = file.read(min(each.offset for each in partition.read(raw).partitions))
    # Bytes 440 to 512 are the disk's number and its partition table.
    return before[:440], before[512:]


def check(raw: Path) -> None:
    """Have e2fsck find nothing wrong in the root file system of RAW."""
    where = partition.read(raw).last
    alone = raw.with_name("alone")
    with raw.open("rb") as source, alone.open("wb") as target:
        os.truncate(target.fileno(), where.size)
        at = where.offset
        while (at := _data(source.fileno(), at)) is not None and at < where.end:
            block = os.pread(source.fileno(), min(1024**2, where.end - at), at)
            os.pwrite(target.fileno(), block, at - where.offset)
            at += len(block)
    done = subprocess.run(["e2fsck", "-fn", alone], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert stat.S_ISREG(alone.stat().st_mode)


def _data(descriptor: int, at: int) -> int | None:
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError:
        return None
