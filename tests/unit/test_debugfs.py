# SPDX-License-Identifier: GPL-3.0-or-later
"""What debugfs is told, it reads as it was meant, or it is not told at all."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from images import MIB

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image import debugfs, extents
from pyguixvm.process import run

# Stands for the absolute name of a file that must not come to be.
OUTSIDE = "@OUTSIDE@"

# Names that debugfs can be told of, ...
PLAIN = (
    "<2>",
    "<2>/<11>",
    "./<2>",
    "-f",
    "--",
    "-l",
    "a?offset=4096",
    " leading",
    "trailing ",
    "   ",
    "#comment",
    "!touch @OUTSIDE@",
    "|touch @OUTSIDE@",
    "; touch @OUTSIDE@",
    "$(touch @OUTSIDE@)",
    '"',
    '""',
    'a" "b',
    '" dump . @OUTSIDE@ "',
    "back\\slash\\",
    "'quotes'",
    "*?[a]{b}",
    "~",
    "@1",
    "debugfs 1.47.0",
    "lost+found",
    "\udcff\udcfe bytes",
    "ünï\u2028cödé \u202e",
    "x" * 255,
    "\u00e9" * 127,
)
# ... and those that it cannot be.
NASTY = (
    "\ndump hello @OUTSIDE@",
    "\n!touch @OUTSIDE@\n",
    "\n",
    "\rdump hello @OUTSIDE@",
    "tab\tin it",
    "\x1b[2Jescape",
    "\x07",
    "\x7f",
)


def long_link(outside: str, buffer: int) -> tuple[str, str]:
    """Return name and target of a link; what is behind a reader's BUFFER would be a command."""
    name = '"' * 255
    said = len('symlink "" "') + 2 * len(name)
    quotes, rest = divmod(buffer - 1 - said, 2)
    return name, "x" * rest + '"' * quotes + f"!touch {outside} #"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file system that holds nothing, to be copied."""
    file = tmp_path_factory.mktemp("empty") / "fs"
    with file.open("wb") as image:
        image.truncate(4 * MIB)
    run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "^has_journal", str(file)])
    return file


@pytest.fixture
def file_system(empty: Path, tmp_path: Path) -> Path:
    extents.copy_sparse(empty, tmp_path / "fs")
    return tmp_path / "fs"


def entries(directory: Path) -> dict[str, bytes | str | None]:
    """Return what DIRECTORY has: a file's content, a link's target, None for a directory."""
    return {
        os.path.relpath(path, directory): os.readlink(path)  # noqa: PTH115 -- as it is
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_bytes()
        for path in directory.rglob("*")
    }


def held(file: Path, target: Path) -> dict[str, bytes | str | None]:
    """Return what the file system in FILE, which is to be sound, holds."""
    run(["e2fsck", "-fn", file.name], directory=file.parent)
    target.mkdir()
    run(["debugfs", "-R", f"rdump / {target}", file.name], directory=file.parent)
    found = entries(target)
    assert found.pop("lost+found") is None
    return found


def item(directory: Path, kind: str, word: str) -> Path:
    """Make in DIRECTORY a store item with something of KIND that WORD names, or is led to."""
    made = directory / "item"
    made.mkdir()
    (made / "hello").write_text("hello")
    word = word if kind == "target" else word.replace("/", "_")
    if kind == "file":
        (made / word).write_text("content")
    elif kind == "directory":
        (made / word).mkdir()
        (made / word / "in it").write_text("content")
    elif kind == "target":
        (made / "name").symlink_to(word)
    elif kind == "link":
        (made / word).symlink_to("somewhere")
    return made


KINDS = ("file", "directory", "target", "link")


def test_what_is_in_an_item_gives_nobody_roots_rights(file_system: Path, tmp_path: Path) -> None:
    source = tmp_path / "item"
    source.mkdir()
    for name, mode in (("setuid", 0o6755), ("open", 0o666)):
        (source / name).touch()
        (source / name).chmod(mode)
    source.chmod(0o3777)
    debugfs.change(file_system, debugfs.store_item(source, "item"))
    listed = subprocess.run(
        ["debugfs", "-R", "ls -l item", file_system], capture_output=True, text=True, check=True
    ).stdout
    modes = {line.split()[-1]: line.split()[1] for line in listed.splitlines() if line}
    assert (modes["setuid"], modes["open"], modes["."]) == ("100555", "100444", "40555")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", PLAIN)
def test_a_name_arrives_as_it_is(file_system: Path, tmp_path: Path, kind: str, word: str) -> None:
    outside = tmp_path / "outside"
    source = item(tmp_path, kind, word.replace(OUTSIDE, str(outside)))
    debugfs.change(file_system, debugfs.store_item(source, "item"))
    wanted = {"item": None} | {f"item/{name}": what for name, what in entries(source).items()}
    assert held(file_system, tmp_path / "tree") == wanted
    assert not outside.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", NASTY)
def test_what_cannot_be_said_is_refused_before_anything_is_run(
    file_system: Path, tmp_path: Path, kind: str, word: str
) -> None:
    outside = tmp_path / "outside"
    source = item(tmp_path, kind, word.replace(OUTSIDE, str(outside)))
    refused(file_system, source)
    assert not outside.exists()


@pytest.mark.parametrize("buffer", [1024, 4096, 8192])
def test_what_is_too_long_for_a_line_is_refused_before_anything_is_run(
    file_system: Path, tmp_path: Path, buffer: int
) -> None:
    outside = tmp_path / "outside"
    name, target = long_link(str(outside), buffer)
    (tmp_path / "item").mkdir()
    (tmp_path / "item" / name).symlink_to(target)
    refused(file_system, tmp_path / "item")
    assert not outside.exists()


def refused(file_system: Path, source: Path) -> None:
    before = file_system.read_bytes()
    with pytest.raises(debugfs.DebugfsError, match="cannot be told of") as raised:
        debugfs.change(file_system, debugfs.store_item(source, "item"))
    assert str(source) in raised.value.message
    assert raised.value.message.isprintable()
    assert file_system.read_bytes() == before


def test_what_is_neither_file_nor_directory_nor_link_is_refused(
    file_system: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(debugfs.DebugfsError, match="fifo is no file"):
        debugfs.change(file_system, debugfs.store_item(tmp_path / "fifo", "item"))


@pytest.mark.parametrize("name", ["hello", "debugfs 1.47.0 (5-Feb-2023)"])
def test_a_failing_command_of_many_is_noticed(file_system: Path, name: str) -> None:
    debugfs.change(
        file_system,
        [
            debugfs.command("mkdir", name),
            debugfs.command("cd", name),
            debugfs.command("mkdir", "b"),
        ],
    )
    with pytest.raises(debugfs.DebugfsError, match="exists"):
        debugfs.change(file_system, [debugfs.command("mkdir", word) for word in ("c", name, "d")])
    with pytest.raises(debugfs.DebugfsError, match="not found"):
        debugfs.change(file_system, [debugfs.command("cd", f"{name}?")])


def test_a_complaint_steers_no_terminal(file_system: Path) -> None:
    with pytest.raises(debugfs.DebugfsError) as raised:
        debugfs.change(file_system, [debugfs.command("cd", "\u009b31m \u202e")])
    assert raised.value.message.replace("\n", "").isprintable()


def test_too_few_files_are_noticed(file_system: Path) -> None:
    # It makes a file, and nothing is said that would be amiss.
    mknod = debugfs.Command(b"mknod pipe p\n", 0)
    with pytest.raises(debugfs.DebugfsError, match="left 12 files "):
        debugfs.change(file_system, [mknod])


def test_no_room_is_said(file_system: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 5 * MIB)
    with pytest.raises(RequestRefusedError, match="no room"):
        debugfs.change(file_system, debugfs.store_item(tmp_path / "large", "large"))


# The bytes of a name, as the host has it.
WORDS = (
    st.binary(min_size=1, max_size=255)
    .filter(lambda name: name not in {b".", b".."} and not {0, ord("/")} & {*name})
    .map(os.fsdecode)
)


@settings(max_examples=50)
@given(words=st.dictionaries(WORDS, WORDS, max_size=20))
@example({'"': '""'})
def test_any_words_are_read_as_they_are_or_refused(empty: Path, words: dict[str, str]) -> None:
    said = {}
    for name, target in words.items():
        try:
            said[name] = debugfs.command("symlink", name, target)
        except debugfs.DebugfsError:
            assert any(ord(char) < 32 or ord(char) == 127 for char in name + target)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "fs")
        extents.copy_sparse(empty, file)
        debugfs.change(file, said.values())
        assert held(file, Path(directory, "tree")) == {name: words[name] for name in said}
