# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy-on-write images: what qemu-img knows and does.

The keys and statuses are those of qemu-img(1) and of QEMU's
``qapi/block-core.json`` (ImageInfo).
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

from pyguixvm import process
from pyguixvm.advice import words
from pyguixvm.confinement import Confinement
from pyguixvm.decoding import decode
from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.sparse_file import flush

PACKAGE_HINT = "Install QEMU's tools (Guix: qemu or qemu-minimal; Debian: qemu-utils)."


# Of a qcow2 image's header (QEMU's docs/interop/qcow2.txt): magic and version, where the name of
# its backing file is, and its incompatible features, from version 3 on.
_HEADER = struct.Struct(">4sIQ56xQ")
_WITHOUT_FEATURES, _EXTERNAL_DATA = 2, 4


class ImageError(PyguixvmError):
    """A disk image cannot be read or written."""


class DamagedImageError(ImageError):
    """A disk image is not consistent in itself."""


class ImageInUseError(RequestRefusedError):
    """Another process has the image open for writing."""


class ImageInfo(msgspec.Struct, frozen=True):
    """An image file: VIRTUAL_SIZE is what a guest sees, ACTUAL_SIZE what it occupies (bytes).

    BACKING is the absolute file name of the image that it stands on, if any.
    """

    path: Path
    format: str
    virtual_size: int
    actual_size: int
    backing: Path | None = None


class _QemuInfo(msgspec.Struct, rename="kebab"):
    """The part of qemu-img's answer that is used; QEMU adds keys with each version."""

    format: str
    virtual_size: int
    actual_size: int
    full_backing_filename: str | None = None
    backing_filename: str | None = None


def inspect(path: Path, image_format: str | None = None) -> ImageInfo:
    """Return what the image at PATH is, whose format QEMU guesses if it is None.

    It does by what stands in the image: of a raw one, whoever writes to it may choose.
    Raises ImageError.
    """
    known = () if image_format is None else ("-f", image_format)
    # Shared: a running guest may have it open.
    answer = _qemu_img(
        *("info", "--force-share", "--output=json", *known, "--", str(path)),
        image=path,
        confined=Confinement(reads=(path,)),
    )
    try:
        info = decode(answer.stdout, _QemuInfo)
    except msgspec.ValidationError as error:
        raise ImageError(f"qemu-img says of {path} what is not understood: {error}") from error
    backing = info.full_backing_filename or info.backing_filename
    return ImageInfo(
        path=path,
        format=info.format,
        virtual_size=info.virtual_size,
        actual_size=info.actual_size,
        backing=None if backing is None else Path(backing),
    )


def require_whole(image: Path, image_format: str) -> None:
    """Raise RequestRefusedError if IMAGE names another file, which QEMU would open with it.

    Its header is read here: what reads images may open that first, and then say so.
    """
    if image_format != "qcow2":
        return
    try:
        with image.open("rb") as file:
            header = file.read(_HEADER.size)
    except OSError as error:
        raise ImageError(f"the image {image} cannot be read: {error.strerror}") from error
    if len(header) < _HEADER.size:
        raise ImageError(f"the image {image} is no qcow2 image, or not all of one")
    _, version, backing, features = _HEADER.unpack(header)
    if backing or (version > _WITHOUT_FEATURES and features & _EXTERNAL_DATA):
        raise RequestRefusedError(
            f"the image {image} is not whole: it names another file, which has a part of it",
            hint=f"Have both in one, if you know where it comes from: qemu-img convert -O qcow2 "
            f"{words(str(image))} WHOLE.qcow2",
        )


def create(base: Path, base_format: str, overlay: Path, size: int) -> None:
    """Make OVERLAY, a qcow2 image of SIZE bytes that stands on BASE.  Raises ImageError."""
    options = ["-q", "-f", "qcow2", "-b", str(base.absolute()), "-F", base_format]
    confined = Confinement(reads=(base,), writes=(overlay.absolute().parent,))
    _qemu_img("create", *options, "--", str(overlay), str(size), image=overlay, confined=confined)


def create_unsafe(backing: Path, backing_format: str, overlay: Path, size: int) -> None:
    """Make OVERLAY as `create` does, on a BACKING that need not exist here.  Raises ImageError."""
    options = ["-q", "-u", "-f", "qcow2", "-b", str(backing), "-F", backing_format]
    confined = Confinement(writes=(overlay.absolute().parent,))
    _qemu_img("create", *options, "--", str(overlay), str(size), image=overlay, confined=confined)


def create_empty(image: Path, size: int) -> None:
    """Make the qcow2 IMAGE of SIZE bytes, on nothing.  Raises ImageError."""
    confined = Confinement(writes=(image.absolute().parent,))
    _qemu_img(
        *("create", "-q", "-f", "qcow2", "--", str(image), str(size)),
        image=image,
        confined=confined,
    )


def rebase_unsafe(overlay: Path, backing: Path, backing_format: str) -> None:
    """Let OVERLAY stand on BACKING, which need not exist here but has the same content.

    Only the file name in the header changes.  Raises ImageError.
    """
    options = ["-q", "-u", "-f", "qcow2", "-b", str(backing), "-F", backing_format]
    confined = Confinement(writes=(overlay,))
    _qemu_img("rebase", *options, "--", str(overlay), image=overlay, confined=confined)


def compress(overlay: Path, base: Path, base_format: str) -> None:
    """Have OVERLAY hold as little as it can of what it has beyond BASE, which it stands on.

    Who reads that has it decompressed, who writes to it has a cluster of its own.  Raises
    ImageError, and leaves it as it is.
    """
    smaller = overlay.with_name(f"{overlay.name}.smaller")
    try:
        _qemu_img(
            *("convert", "-c", "-f", "qcow2", "-O", "qcow2"),
            *("-B", str(base.absolute()), "-F", base_format),
            *("--", str(overlay), str(smaller)),
            image=overlay,
            confined=Confinement(reads=(overlay, base), writes=(overlay.absolute().parent,)),
        )
        finish(smaller, base)
        smaller.replace(overlay)
    finally:
        smaller.unlink(missing_ok=True)


def convert_to_raw(image: Path, image_format: str, raw: Path) -> None:
    """Write the whole content of IMAGE to the sparse file RAW.  Raises ImageError."""
    _convert(image, image_format, raw, "raw")


def convert_to_qcow2(raw: Path, image: Path) -> None:
    """Write what the file RAW holds, holes left out, to the qcow2 IMAGE.  Raises ImageError."""
    _convert(raw, "raw", image, "qcow2")


def _convert(source: Path, source_format: str, target: Path, target_format: str) -> None:
    options = ["-f", source_format, "-O", target_format]
    confined = Confinement(reads=(source,), writes=(target.absolute().parent,))
    _qemu_img(
        *("convert", *options, "--", str(source), str(target)), image=source, confined=confined
    )


def check(overlay: Path, backing: Path | None = None) -> None:
    """Return if OVERLAY, which stands on BACKING or on files beside it, is consistent.

    Raises DamagedImageError.
    """
    below = overlay.absolute().parent if backing is None else backing
    _qemu_img(
        *("check", "-q", "-f", "qcow2", "--", str(overlay)),
        image=overlay,
        confined=Confinement(reads=(overlay, below)),
    )


def finish(overlay: Path, backing: Path | None = None) -> None:
    """Return if the qcow2 image OVERLAY, which is written, is consistent and on disk.

    It stands on BACKING, if on anything.

    Raises ImageError.
    """
    check(overlay, backing)
    try:
        flush(overlay)
    except OSError as error:
        raise ImageError(f"the image {overlay} could not be written to disk: {error}") from error


_CHECK_MEANING = {2: "is corrupted", 3: "has leaked clusters"}


def _qemu_img(verb: str, *arguments: str, image: Path, confined: Confinement) -> process.Completed:
    """Run qemu-img; name in its errors what is wrong with IMAGE."""
    program = process.which("qemu-img", PACKAGE_HINT)
    done = process.run([str(program), verb, *arguments], check=False, confined=confined)
    if done.status == 0:
        return done
    if verb == "check" and done.status in _CHECK_MEANING:
        raise DamagedImageError(f"the image {image} {_CHECK_MEANING[done.status]}")
    reason = done.stderr.decode(errors="replace").strip()
    if "Failed to get" in reason and "lock" in reason:
        raise ImageInUseError(
            f"the image {image} is in use by another process",
            hint="Is a virtual machine running from it?  Shut it down first.",
        )
    if reason.endswith("No such file or directory"):
        raise ImageError(f"there is no image {image}: {reason}")
    if "No space left on device" in reason:
        raise ImageError(f"no space is left for {image}", hint="See 'df -h' for its directory.")
    failed = process.CommandFailedError(done)
    raise ImageError(failed.message) from failed
