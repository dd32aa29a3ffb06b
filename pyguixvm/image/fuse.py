# SPDX-License-Identifier: GPL-3.0-or-later
"""A qcow2 image as a raw file, by QEMU's FUSE export (qemu-storage-daemon(1)).

Not every QEMU is built with it: Guix's is not.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyguixvm import confinement, daemon, process
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.partition import Partition

_DAEMON = "qemu-storage-daemon"


class CannotMountError(ImageError):
    """The image cannot be shown here, although all that it takes seems to be there."""


def available() -> bool:
    """Return whether QEMU has the export, and this user may mount it, as far as one can see."""
    try:
        program = process.which(_DAEMON)
    except process.MissingProgramError:
        return False
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return False
    # Users other than root mount through this program, which is setuid.
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return False
    return "type=]fuse" in process.run([str(program), "--help"], check=False).text


@contextmanager
def mounted(image: Path, directory: Path, where: Partition | None = None) -> Iterator[Path]:
    """Show the qcow2 IMAGE, or its partition WHERE, as a raw file in DIRECTORY.

    That lasts for the body; the daemon behind it is gone afterwards, and IMAGE
    complete.  Raises CannotMountError, ImageError if the daemon ends before, and
    CommandFailedError if it does not end well.
    """
    mountpoint = directory / ("raw" if where is None else "partition")
    mountpoint.touch()
    # The file's own device number tells when the mount is there.
    outside = mountpoint.stat().st_dev
    program = process.which(_DAEMON)
    window = "" if where is None else f",offset={where.offset},size={where.size}"
    # What reaches the disk can wait until the file is done (`overlay.finish`).
    file = f"driver=file,node-name=file,filename={_quoted(image)},cache.no-flush=on"
    export = f"type=fuse,id=raw,node-name=raw,mountpoint={_quoted(mountpoint)},writable=on"
    options = [
        *("--blockdev", file),
        *("--blockdev", "driver=qcow2,node-name=image,file=file,cache.no-flush=on"),
        *("--blockdev", f"driver=raw,node-name=raw,file=image{window}"),
        *("--export", export),
    ]
    shown = False
    try:
        with daemon.serving(
            [str(program), *options], ready=lambda: mountpoint.stat().st_dev != outside
        ) as daemon_id:
            confinement.bound(daemon_id)
            shown = True
            yield mountpoint
    except (process.CommandFailedError, process.CommandTimeoutError) as error:
        if shown:
            raise
        # In a container, mounting may be forbidden whatever the device's mode says.
        raise CannotMountError(error.message) from error
    except OSError as error:
        if error.errno in _WITHOUT_DAEMON:
            raise ImageError(f"{_DAEMON} ended while {image} was written: {error}") from error
        raise
    finally:
        _unmount(mountpoint, outside)


# What a mount says whose daemon is gone.
_WITHOUT_DAEMON = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.EIO})


def _unmount(mountpoint: Path, outside: int) -> None:
    """Take MOUNTPOINT away if its daemon could not; OUTSIDE is the device of the file under it."""
    with suppress(OSError):
        if mountpoint.stat().st_dev == outside:
            return
    fusermount = shutil.which("fusermount3")
    umount = [fusermount, "-u", "-z"] if fusermount else ["umount", "--lazy"]
    process.run([*umount, "--", str(mountpoint)], check=False)


def _quoted(path: Path) -> str:
    """Return PATH as QEMU's option syntax takes it: a comma is written twice."""
    return str(path.absolute()).replace(",", ",,")
