# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and changing an unmounted ext4 by its own debugger, debugfs(8).

It comes with e2fsprogs, needs neither root nor a mount, and writes files with the
code by which mke2fs(8) fills a new file system.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pyguixvm import process
from pyguixvm.errors import RequestRefusedError
from pyguixvm.image.filesystem import PACKAGE_HINT
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.partition import Partition

_NO_ROOM = ("No free space", "Could not allocate block", "Could not allocate inode")


class DebugfsError(ImageError):
    """Debugfs did not do what it was told."""


def read_file(image: Path, where: Partition, name: str, target: Path) -> None:
    """Copy the file NAME in the ext4 in partition WHERE of the raw IMAGE to TARGET.

    Raises DebugfsError if there is none.
    """
    # The tools take what follows a "?" for options: IMAGE must have none in its name.
    if "?" in str(image):
        raise DebugfsError(f"debugfs cannot read an image with '?' in its name: {image}")
    _run(f"dump {quoted(name)} {quoted(str(target))}\n", f"{image}?offset={where.offset}", ())


def change(file_system: Path, commands: Iterable[str]) -> None:
    """Have debugfs carry out COMMANDS on FILE_SYSTEM, a file that holds nothing else.

    Raises RequestRefusedError if there is no room, and DebugfsError.
    """
    _run("".join(f"{command}\n" for command in commands), str(file_system), ("-w",))


def _run(script: str, file_system: str, options: tuple[str, ...]) -> None:
    program = process.which("debugfs", PACKAGE_HINT)
    # Standard input is not a terminal: a command a line, no questions.
    done = process.run(
        [str(program), *options, "-f", "-", file_system],
        stdin=script.encode("utf-8", "surrogateescape"),
        check=False,
    )
    # Its exit status says nothing of single commands; only they and its version are told.
    lines = done.stderr.decode(errors="replace").splitlines()
    complaints = [line for line in lines if line and not line.startswith("debugfs 1.")]
    if done.status == 0 and not complaints:
        return
    told = "\n  ".join(complaints[:5])
    if any(words in told for words in _NO_ROOM):
        raise RequestRefusedError(
            "the declared storage has no room for what the system needs beside its base",
            hint="Declare more (storage …), or deploy with --full.",
        )
    raise DebugfsError(f"debugfs could not change the root file system:\n  {told}")


def quoted(word: str) -> str:
    """Return WORD as debugfs reads it (lib/ss/parse.c of e2fsprogs)."""
    return '"' + word.replace('"', '""') + '"'


def store_item(source: Path, name: str) -> Iterator[str]:
    """Yield what copies SOURCE, a store item, to NAME in the current directory.

    Owner, mode and modification time are those of every store: root's, read-only, 1.
    """
    status = source.lstat()
    if stat.S_ISDIR(status.st_mode):
        yield f"mkdir {quoted(name)}"
        yield f"cd {quoted(name)}"
        for entry in sorted(source.iterdir()):
            yield from store_item(entry, entry.name)
        yield "cd .."
    elif stat.S_ISLNK(status.st_mode):
        yield f"symlink {quoted(name)} {quoted(str(source.readlink()))}"
    else:
        yield f"write {quoted(str(source))} {quoted(name)}"
    yield from _attributes(name, status.st_mode, modified=1)


def replaced_file(source: Path, name: str, mode: int) -> Iterator[str]:
    """Yield what puts a copy of SOURCE in the place of the file with the absolute NAME."""
    path = PurePosixPath(name)
    yield f"cd {quoted(str(path.parent))}"
    yield f"rm {quoted(path.name)}"
    yield f"write {quoted(str(source))} {quoted(path.name)}"
    yield from _attributes(path.name, stat.S_IFREG | mode)


def directory(name: str, mode: int) -> Iterator[str]:
    """Yield what makes the directory with the absolute NAME, whose parent is there."""
    yield f"mkdir {quoted(name)}"
    yield from _attributes(name, stat.S_IFDIR | mode)


def link(target: str, name: str) -> Iterator[str]:
    """Yield what lets a new symbolic link with the absolute NAME lead to TARGET."""
    path = PurePosixPath(name)
    yield f"cd {quoted(str(path.parent))}"
    yield f"symlink {quoted(path.name)} {quoted(target)}"


def replaced_link(target: str, name: str) -> Iterator[str]:
    """Yield what lets the symbolic link with the absolute NAME lead to TARGET."""
    yield f"rm {quoted(name)}"
    yield from link(target, name)


def _attributes(name: str, mode: int, modified: int | None = None) -> Iterator[str]:
    # Both are root's already, as all that debugfs makes.
    yield f"sif {quoted(name)} mode 0{mode:o}"
    if modified is not None:
        yield f"sif {quoted(name)} mtime @{modified}"
