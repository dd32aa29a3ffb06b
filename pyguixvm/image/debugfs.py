# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and changing an unmounted ext4 by its own debugger, debugfs(8).

It comes with e2fsprogs, needs neither root nor a mount, and writes files with the
code by which mke2fs(8) fills a new file system.

It reads commands, a line each, and some of them write files of the host's or run
programs.  So what is in a name must never become a line, a word or an inode of its
own: a `Command` that could be read in another way than it is meant cannot be made.
What reads them is ``source_file`` in ``debugfs/debugfs.c``, ``ss_parse`` in
``lib/ss/parse.c`` and ``string_to_inode`` in ``debugfs/util.c`` of e2fsprogs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from pyguixvm import process
from pyguixvm.confinement import Confinement
from pyguixvm.errors import RequestRefusedError
from pyguixvm.image.filesystem import PACKAGE_HINT, used_inodes
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.partition import Partition
from pyguixvm.model.store_item import mode_in_a_store
from pyguixvm.model.volume_names import is_store_item
from pyguixvm.printable import printable

_NO_ROOM = ("No free space", "Could not allocate block", "Could not allocate inode")
_VERSION = re.compile(r"debugfs \d[\w.+~-]* \([\w-]+\)")

# Some of them end a line, and none has a place in a message.
_CONTROL = re.compile(rb"[\0-\x1f\x7f]")
# The rest of a longer one would be read as another line.  It is stdio's BUFSIZ less the
# zero at the end: 1024 in musl, and 8192 in the GNU C Library.
_LONGEST_LINE = 1023
# What a command adds to the number of inodes in use.
_INODES = {"mkdir": 1, "symlink": 1, "write": 1, "rm": -1}


class DebugfsError(ImageError):
    """Debugfs did not do what it was told, or cannot be told."""


class Command(msgspec.Struct, frozen=True):
    """A command to debugfs: LINE is what it reads; it makes INODES (removes, if less than 0).

    SOURCE is the file of the host's that it copies, if it copies one.
    """

    line: bytes
    inodes: int
    source: Path | None = None


def command(verb: str, *words: str, about: Path | str | None = None) -> Command:
    """Return the command VERB with WORDS, each of which debugfs reads as it is here.

    Raises DebugfsError, which names ABOUT, if there is no saying one of WORDS.
    """
    line = b" ".join([verb.encode(), *(_quoted(word) for word in words)]) + b"\n"
    subject = printable(" ".join(words) if about is None else str(about))
    for word in words:
        if _CONTROL.search(os.fsencode(word)):
            raise DebugfsError(
                f"debugfs cannot be told of {subject}: '{printable(word)}' has control characters"
            )
    if len(line) > _LONGEST_LINE:
        raise DebugfsError(f"debugfs cannot be told of {subject}: names so long are not read")
    source = Path(words[0]) if verb == "write" else None
    return Command(line, _INODES.get(verb, 0), source)


def _quoted(word: str) -> bytes:
    return b'"' + os.fsencode(word).replace(b'"', b'""') + b'"'


def read_file(image: Path, where: Partition, name: str, target: Path) -> None:
    """Copy the file NAME in the ext4 in partition WHERE of the raw IMAGE to TARGET.

    Raises DebugfsError if there is none.
    """
    # The tools take what follows a "?" for options: IMAGE must have none in its name.
    if "?" in str(image):
        raise DebugfsError(f"debugfs cannot read an image with '?' in its name: {image}")
    dump = command("dump", name, str(target.absolute()))
    # Debugfs makes the file.
    confined = Confinement(reads=(image,), writes=(target.absolute().parent,))
    _run([dump], image, f"{image}?offset={where.offset}", (), confined)


def change(file_system: Path, commands: Iterable[Command]) -> None:
    """Have debugfs carry out COMMANDS on FILE_SYSTEM, a file that holds nothing else.

    Raises RequestRefusedError if there is no room, and DebugfsError; if a command
    cannot even be made, nothing was run.
    """
    commands = tuple(commands)
    expected = used_inodes(file_system) + sum(each.inodes for each in commands)
    sources = {each.source for each in commands if each.source is not None}
    beside = tuple(each for each in sources if not is_store_item(str(each)))
    confined = Confinement(reads=beside, writes=(file_system,))
    _run(commands, file_system, file_system.name, ("-w",), confined)
    found = used_inodes(file_system)
    if found != expected:
        raise DebugfsError(
            f"debugfs left {found} files in the root file system instead of {expected}"
        )


def _run(
    commands: Iterable[Command],
    file: Path,
    file_system: str,
    options: tuple[str, ...],
    confined: Confinement,
) -> None:
    program = process.which("debugfs", PACKAGE_HINT)
    # Standard input is not a terminal: a command a line, no questions.
    done = process.run(
        [str(program), *options, "-f", "-", file_system],
        stdin=b"".join(each.line for each in commands),
        directory=file.absolute().parent,
        check=False,
        confined=confined,
    )
    # Its exit status says nothing of single commands; only they and its version are told.
    version, *complaints = done.stderr.decode(errors="surrogateescape").split("\n")
    if not _VERSION.fullmatch(version):
        complaints.insert(0, version)
    complaints = [printable(line) for line in complaints if line]
    if done.status == 0 and not complaints:
        return
    told = "\n  ".join(complaints[:5]) or process.describe_status(done.status)
    if any(words in told for words in _NO_ROOM):
        raise RequestRefusedError(
            "the declared storage has no room for what the system needs beside its base",
            hint="Declare more (storage …), or deploy with --full.",
        )
    raise DebugfsError(f"debugfs could not change the root file system:\n  {told}")


def store_item(source: Path, name: str) -> Iterator[Command]:
    """Yield what copies SOURCE, a store item, to NAME in the current directory.

    Owner, mode and modification time are those of every store: root's, read-only, 1.
    Raises DebugfsError if that cannot be said.
    """
    status = source.lstat()
    if stat.S_ISDIR(status.st_mode):
        yield command("mkdir", name, about=source)
        yield command("cd", _here(name), about=source)
        for entry in sorted(source.iterdir()):
            yield from store_item(entry, entry.name)
        yield command("cd", "..")
    elif stat.S_ISLNK(status.st_mode):
        # A Path would be another spelling of the target: "./a//b" is "a/b" there.
        target = os.readlink(source)  # noqa: PTH115
        yield command("symlink", name, target, about=source)
    elif stat.S_ISREG(status.st_mode):
        yield command("write", str(source), name, about=source)
    else:
        raise DebugfsError(f"{printable(str(source))} is no file, directory or symbolic link")
    yield from _attributes(_here(name), mode_in_a_store(status.st_mode), modified=1, about=source)


def _here(name: str) -> str:
    """Return NAME such that it is a file's, even where ``<2>`` would be an inode."""
    return f"./{name}"


def replaced_file(source: Path, name: str, mode: int) -> Iterator[Command]:
    """Yield what puts a copy of SOURCE in the place of the file with the absolute NAME."""
    path = PurePosixPath(name)
    yield command("cd", str(path.parent))
    yield command("rm", _here(path.name))
    yield command("write", str(source.absolute()), path.name)
    yield from _attributes(_here(path.name), stat.S_IFREG | mode)


def directory(name: str, mode: int) -> Iterator[Command]:
    """Yield what makes the directory with the absolute NAME, whose parent is there."""
    yield command("mkdir", name)
    yield from _attributes(name, stat.S_IFDIR | mode)


def link(target: str, name: str) -> Iterator[Command]:
    """Yield what lets a new symbolic link with the absolute NAME lead to TARGET."""
    path = PurePosixPath(name)
    yield command("cd", str(path.parent))
    yield command("symlink", path.name, target)


def replaced_link(target: str, name: str) -> Iterator[Command]:
    """Yield what lets the symbolic link with the absolute NAME lead to TARGET."""
    yield command("rm", name)
    yield from link(target, name)


def _attributes(
    name: str, mode: int, modified: int | None = None, about: Path | None = None
) -> Iterator[Command]:
    # Both are root's already, as all that debugfs makes.
    yield command("sif", name, "mode", f"0{mode:o}", about=about)
    if modified is not None:
        yield command("sif", name, "mtime", f"@{modified}", about=about)
