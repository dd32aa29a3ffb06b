# SPDX-License-Identifier: GPL-3.0-or-later
"""Store items in one file, as a guest unpacks them."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image.parcel import pack
from pyguixvm.model.store_item import StoreItem


def item(path: Path, *references: str) -> StoreItem:
    return StoreItem(str(path), "sha256:ab", 120, references)


def test_a_guest_unpacks_what_it_lacks(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "aa-tree/bin").mkdir(parents=True)
    (store / "aa-tree/bin/program").write_text("run me")
    (store / "aa-tree/bin/program").chmod(0o555)
    (store / "aa-tree/link").symlink_to("bin/program")
    (store / "aa-tree/same").hardlink_to(store / "aa-tree/bin/program")
    (store / "bb-file").write_text("text")
    (store / "cc-link").symlink_to("/nowhere")
    items = [item(store / "aa-tree", "/gnu/store/bb-file", "/gnu/store/x"), item(store / "bb-file")]
    file = tmp_path / "parcel"
    pack(file, [*items, item(store / "cc-link")], ["/gnu/store/bb-file", "/gnu/store/x"])

    there = tmp_path / "there"
    there.mkdir()
    subprocess.run(["tar", "-x", "-f", file, "-C", there], check=True)
    program = there / "store/aa-tree/bin/program"
    assert (program.read_text(), program.stat().st_mode & 0o777) == ("run me", 0o555)
    assert program.stat().st_mtime == 1
    assert program.samefile(there / "store/aa-tree/same")
    assert (there / "store/aa-tree/link").readlink() == Path("bin/program")
    assert (there / "store/bb-file").read_text() == "text"
    assert (there / "store/cc-link").readlink() == Path("/nowhere")
    assert (there / "closure").read_text() == "/gnu/store/bb-file\n/gnu/store/x\n"
    assert (there / "registration").read_text() == (
        f'(("{store}/aa-tree" "sha256:ab" 120 ("/gnu/store/bb-file" "/gnu/store/x")) '
        f'("{store}/bb-file" "sha256:ab" 120 ()) ("{store}/cc-link" "sha256:ab" 120 ()))\n'
    )


def test_what_is_packed_gives_nobody_roots_rights(tmp_path: Path) -> None:
    tree = tmp_path / "aa-tree"
    tree.mkdir()
    (tree / "program").write_text("hostile")
    (tree / "program").chmod(0o6777)
    (tree / "text").touch(mode=0o666)
    tree.chmod(0o3777)
    pack(tmp_path / "parcel", [item(tree)], [])
    with tarfile.open(tmp_path / "parcel") as archive:
        modes = {each.name: each.mode for each in archive if "tree" in each.name}
    assert modes == {
        "store/aa-tree": 0o555, "store/aa-tree/program": 0o555, "store/aa-tree/text": 0o444,
    }  # fmt: skip


def test_a_device_or_a_pipe_is_not_packed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "aa-\x1b[31mpipe")
    with pytest.raises(RequestRefusedError, match="no file, directory or symbolic link") as refused:
        pack(tmp_path / "parcel", [item(tmp_path / "aa-\x1b[31mpipe")], [])
    assert "\x1b" not in refused.value.message


def test_what_is_packed_is_roots_whoever_packs_it(tmp_path: Path) -> None:
    (tmp_path / "aa-file").touch()
    pack(tmp_path / "parcel", [item(tmp_path / "aa-file")], [])
    listed = subprocess.run(
        ["tar", "-t", "-v", "--numeric-owner", "-f", tmp_path / "parcel"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {line.split()[1] for line in listed.splitlines()} == {"0/0"}
