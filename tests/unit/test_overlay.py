# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlays, by the real qemu-img, and their content by the real qemu-nbd."""

from __future__ import annotations

from pathlib import Path

import pytest
from images import MIB
from processes import processes_naming

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image import nbd, overlay
from pyguixvm.image.overlay import DamagedImageError, ImageError, require_whole
from pyguixvm.process import CommandFailedError, run


def raw(directory: Path, size: int = MIB) -> Path:
    file = directory / "base, with a comma.raw"
    file.write_bytes(b"x" * size)
    return file


def test_an_overlay_stands_on_its_base(tmp_path: Path) -> None:
    base = raw(tmp_path)
    over = tmp_path / "over"
    overlay.create(base, "raw", over, 5 * MIB)
    info = overlay.inspect(over)
    assert (info.format, info.virtual_size, info.backing) == ("qcow2", 5 * MIB, base)
    assert info.actual_size < MIB
    overlay.check(over)


def test_a_raw_file_stands_on_nothing(tmp_path: Path) -> None:
    info = overlay.inspect(raw(tmp_path))
    assert (info.format, info.virtual_size, info.backing) == ("raw", MIB, None)


@pytest.mark.parametrize(
    "options",
    [
        ("-u", "-b", "/etc/shadow", "-F", "raw"),
        ("-u", "-b", "/etc/shadow", "-F", "raw", "-o", "compat=0.10"),
        ("-o", "data_file={}/data,data_file_raw=on"),
    ],
)
def test_an_image_that_names_another_file_is_not_whole(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    image = tmp_path / "image"
    given = [each.format(tmp_path) for each in options]
    run(["qemu-img", "create", "-q", "-f", "qcow2", *given, str(image), "1M"])
    with pytest.raises(RequestRefusedError, match="names another file"):
        require_whole(image, "qcow2")
    # To a raw disk, it is some bytes.
    require_whole(image, "raw")


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_one_that_names_none_is_whole(tmp_path: Path, version: str) -> None:
    image = tmp_path / "image"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"compat={version}"]
    run([*command, str(image), "1M"])
    require_whole(image, "qcow2")
    image.write_bytes(image.read_bytes()[:50])
    with pytest.raises(ImageError, match="not all of one"):
        require_whole(image, "qcow2")


def test_what_stands_in_a_raw_image_does_not_make_it_another_kind(tmp_path: Path) -> None:
    overlay.create_unsafe(Path("/etc/shadow"), "raw", tmp_path / "image", 512 * MIB)
    assert overlay.inspect(tmp_path / "image", "raw").virtual_size < MIB


def test_the_backing_file_can_be_one_that_is_not_here(tmp_path: Path) -> None:
    over = tmp_path / "over"
    overlay.create(raw(tmp_path), "raw", over, MIB)
    overlay.rebase_unsafe(over, Path("/elsewhere/base.raw"), "raw")
    assert overlay.inspect(over).backing == Path("/elsewhere/base.raw")


def test_what_is_written_is_read_from_the_overlay_and_the_rest_from_the_base(
    tmp_path: Path,
) -> None:
    base, over = raw(tmp_path), tmp_path / "over"
    overlay.create(base, "raw", over, 2 * MIB)
    with nbd.exported(over, base) as export:
        export.write(1000, b"hello")
        assert export.read(998, 9) == b"xxhelloxx"
        assert export.read(MIB - 2, 4) == b"xx\0\0"
        with pytest.raises(ImageError, match="could not be read"):
            export.read(2 * MIB, 512)
    overlay.check(over)
    whole = tmp_path / "whole"
    overlay.convert_to_raw(over, "qcow2", whole)
    assert whole.read_bytes() == b"x" * 1000 + b"hello" + b"x" * (MIB - 1005) + bytes(MIB)
    assert base.read_bytes() == b"x" * MIB


def test_a_compressed_overlay_shows_the_same_in_less(tmp_path: Path) -> None:
    base, over = raw(tmp_path), tmp_path / "over"
    overlay.create(base, "raw", over, 8 * MIB)
    with nbd.exported(over, base) as export:
        for at in range(1, 7):
            export.write(at * MIB - 77, b"the same" * 8192)
        export.write(0, bytes(65536))  # the base has something else there
    before = overlay.inspect(over).actual_size
    whole, again = tmp_path / "whole", tmp_path / "again"
    overlay.convert_to_raw(over, "qcow2", whole)
    overlay.compress(over, base, "raw")
    overlay.check(over, base)
    info = overlay.inspect(over)
    assert (info.virtual_size, info.backing) == (8 * MIB, base)
    assert info.actual_size < before / 2
    overlay.convert_to_raw(over, "qcow2", again)
    assert again.read_bytes() == whole.read_bytes()
    assert base.read_bytes() == b"x" * MIB


def test_an_overlay_that_cannot_be_compressed_stays_as_it_is(tmp_path: Path) -> None:
    base, over = raw(tmp_path), tmp_path / "over"
    overlay.create(base, "raw", over, MIB)
    base.unlink()
    before = over.read_bytes()
    with pytest.raises(ImageError):
        overlay.compress(over, base, "raw")
    assert over.read_bytes() == before
    assert list(tmp_path.iterdir()) == [over]


def test_what_serves_an_image_is_bound_to_it(tmp_path: Path) -> None:
    secret, over = tmp_path / "secret", tmp_path / "over"
    secret.write_bytes(b"x" * MIB)
    overlay.create_unsafe(secret, "raw", over, MIB)
    with (
        pytest.raises(CommandFailedError, match="Permission denied"),
        nbd.exported(over, raw(tmp_path)),
    ):
        pass
    with nbd.exported(over, secret):
        told = [Path(f"/proc/{each.pid}/status").read_text() for each in processes_naming(over)]
    # What confines it waits for it.
    (status,) = [each for each in told if each.startswith("Name:\tqemu-nbd\n")]
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_no_server_is_left_when_the_body_fails(tmp_path: Path) -> None:
    over = tmp_path / "over"
    overlay.create(base := raw(tmp_path), "raw", over, MIB)
    with pytest.raises(KeyboardInterrupt), nbd.exported(over, base):
        raise KeyboardInterrupt
    # It would hold a lock on the image.
    run(["qemu-io", "-f", "qcow2", "-c", "write 0 512", str(over)])


def test_a_damaged_overlay_is_noticed(tmp_path: Path) -> None:
    over = tmp_path / "over"
    overlay.create(raw(tmp_path), "raw", over, MIB)
    run(["qemu-io", "-f", "qcow2", "-c", "write 0 65536", str(over)])
    with over.open("r+b") as file:
        # The first entry of the first refcount block, at the third cluster in a new image.
        file.seek(2 * 65536)
        file.write(bytes(16))
    with pytest.raises(DamagedImageError, match="corrupted"):
        overlay.check(over)


def test_an_image_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no image"):
        overlay.inspect(tmp_path / "none")


def test_an_image_in_use_is_said_to_be(tmp_path: Path) -> None:
    over = tmp_path / "over"
    overlay.create(base := raw(tmp_path), "raw", over, MIB)
    with nbd.exported(over, base), pytest.raises(RequestRefusedError, match="in use"):
        overlay.rebase_unsafe(over, Path("/x"), "raw")
