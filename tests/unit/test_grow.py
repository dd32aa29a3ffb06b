# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing real images, in every way, to the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from images import (
    MIB,
    check_file_system,
    digest,
    files,
    last_partition,
    make_btrfs_image,
    make_image,
)
from processes import processes_naming

from pyguixvm.errors import PyguixvmError, RequestRefusedError, UsageError
from pyguixvm.events import Event, Notice, ignore
from pyguixvm.image import filesystem, fuse, nbd, overlay
from pyguixvm.image.grow import METHOD_VARIABLE, grow, require_room
from pyguixvm.image.overlay import ImageError
from pyguixvm.process import CommandFailedError, run

METHODS = ("metadata", "fuse", "copy")
LAYOUTS = {
    "mbr, as Guix makes it": {},
    "gpt": {"label": "gpt"},
    "4 KiB blocks, 64 bits, checksums": {"options": ["-b", "4096"], "root_size": 48 * MIB},
    "without a journal or flexible groups": {"options": ["-O", "^has_journal,^flex_bg"]},
    "junk in its free blocks": {"junk": True},
}
BTRFS_LAYOUTS = {
    "btrfs on gpt, as Guix makes it": {},
    "btrfs on mbr, of mixed block groups": {"label": "dos", "options": ["--mixed"]},
}


def raw_of(overlay_file: Path) -> Path:
    raw = overlay_file.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", overlay_file, raw], check=True)
    return raw


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", [*LAYOUTS, *BTRFS_LAYOUTS])
def test_volume_partition_and_file_system_grow(tmp_path: Path, method: str, layout: str) -> None:
    if layout in LAYOUTS:
        base = make_image(tmp_path, **LAYOUTS[layout])  # type: ignore[arg-type]
    else:
        base = make_btrfs_image(tmp_path, **BTRFS_LAYOUTS[layout])  # type: ignore[arg-type]
    before = digest(base)
    size = 300 * MIB + 512 * 3
    result = tmp_path / "result" / "overlay.qcow2"
    result.parent.mkdir()

    grown = grow(base, "raw", result, size, emit=ignore, environment={METHOD_VARIABLE: method})

    assert (grown.overlay, grown.size, grown.method) == (result, size, method)
    assert list(result.parent.iterdir()) == [result]
    assert digest(base) == before
    overlay.check(result, base)
    info = overlay.inspect(result)
    assert (info.virtual_size, info.backing) == (size, base)
    assert info.actual_size < 16 * MIB

    raw = raw_of(result)
    where = last_partition(raw)
    assert size - where.end <= 40 * 512
    found = filesystem.read(raw, where)
    assert where.size - found.size < 8192 * found.block_size
    assert found.label == "Guix_image"
    run(["sfdisk", "--verify", str(raw)])
    check_file_system(raw, where)
    assert files(raw, where) == files(base, last_partition(base))
    with raw.open("rb") as disk:
        disk.seek(MIB)
        assert disk.read(300) == b"esp" * 100


@pytest.mark.parametrize("method", ["fuse", "copy"])
@pytest.mark.parametrize("make", [make_image, make_btrfs_image])
def test_a_qcow2_image_grows_too(tmp_path: Path, method: str, make: Callable[[Path], Path]) -> None:
    base = tmp_path / "base.qcow2"
    run(["qemu-img", "convert", "-O", "qcow2", str(make(tmp_path)), str(base)])
    before = digest(base)
    result = tmp_path / "overlay.qcow2"
    environment = {METHOD_VARIABLE: method}
    grow(base, "qcow2", result, 300 * MIB, emit=ignore, environment=environment)
    assert digest(base) == before
    overlay.check(result)
    raw = raw_of(result)
    check_file_system(raw, last_partition(raw))
    assert files(raw, last_partition(raw)) == files(tmp_path / "image", last_partition(raw))


def test_what_shows_an_image_and_cannot_be_bound_gets_no_qcow2_image(tmp_path: Path) -> None:
    assert fuse.available()
    base = tmp_path / "base.qcow2"
    run(["qemu-img", "convert", "-O", "qcow2", str(make_image(tmp_path)), str(base)])
    events: list[Event] = []
    grown = grow(base, "qcow2", tmp_path / "o", 200 * MIB, emit=events.append, environment={})
    assert grown.method == "copy"
    (told,) = events
    assert isinstance(told, Notice)
    assert "a raw image does without" in told.message


@pytest.mark.parametrize(("has_fuse", "method"), [(True, "fuse"), (False, "metadata")])
@pytest.mark.parametrize("make", [make_image, make_btrfs_image])
def test_without_fuse_the_metadata_are_enough(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    *,
    has_fuse: bool,
    method: str,
) -> None:
    monkeypatch.setattr(fuse, "available", lambda: has_fuse)
    events: list[Event] = []
    base = make(tmp_path)
    grown = grow(base, "raw", tmp_path / "o", 200 * MIB, emit=events.append, environment={})
    assert grown.method == method
    assert events == []


def test_without_fuse_data_that_has_to_move_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse, "available", lambda: False)
    base = make_image(tmp_path, options=["-O", "^resize_inode,^64bit", "-b", "1024"])
    result = tmp_path / "o.qcow2"
    events: list[Event] = []
    grown = grow(base, "raw", result, 1000 * MIB, emit=events.append, environment={})
    assert grown.method == "copy"
    assert [type(event) for event in events] == [Notice]
    raw = raw_of(result)
    check_file_system(raw, last_partition(raw))
    assert files(raw, last_partition(raw)) == files(base, last_partition(base))


def test_a_copy_is_announced(tmp_path: Path) -> None:
    events: list[Event] = []
    grow(
        make_image(tmp_path),
        "raw",
        tmp_path / "o",
        90 * MIB,
        emit=events.append,
        machine="web",
        environment={METHOD_VARIABLE: "copy"},
    )
    assert [(event.machine, event.warning) for event in events if isinstance(event, Notice)] == [
        ("web", True)
    ]


def test_the_same_size_takes_an_overlay_only(tmp_path: Path) -> None:
    base = make_image(tmp_path)
    size = base.stat().st_size
    grown = grow(base, "raw", tmp_path / "o", size, emit=ignore, environment={})
    assert grown.method == "none"
    assert overlay.inspect(tmp_path / "o").virtual_size == size


def test_a_size_smaller_than_the_image_is_refused_with_both(tmp_path: Path) -> None:
    base = make_image(tmp_path)
    with pytest.raises(RequestRefusedError, match=r"storage of 10M .* image .* of 27M") as caught:
        grow(base, "raw", tmp_path / "o", 10 * MIB, emit=ignore, environment={})
    assert caught.value.hint == "Declare at least (storage 27M)."
    assert not (tmp_path / "o").exists()


def test_as_much_as_the_image_has_is_told_exactly(tmp_path: Path) -> None:
    base = tmp_path / "base"
    with base.open("wb") as image:
        image.truncate(1025 * MIB)
    with pytest.raises(RequestRefusedError) as caught:
        require_room(base, "raw", 10 * MIB)
    assert caught.value.hint == "Declare at least (storage 1025M)."


def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="magic"):
        grow(
            make_image(tmp_path),
            "raw",
            tmp_path / "o",
            90 * MIB,
            emit=ignore,
            environment={METHOD_VARIABLE: "magic"},
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, CommandFailedError])
def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, method: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        if error is KeyboardInterrupt:
            raise KeyboardInterrupt
        run(["sh", "-c", "exit 1"])

    base = make_image(tmp_path)
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.setattr(filesystem, "grow", interrupted)
    with pytest.raises(error):
        grow(
            base,
            "raw",
            directory / "o",
            90 * MIB,
            emit=ignore,
            environment={METHOD_VARIABLE: method},
        )
    assert list(directory.iterdir()) == []
    assert str(directory) not in Path("/proc/self/mounts").read_text()
    assert not processes_naming(directory)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before the work", "after the work"])
def test_an_exporter_that_is_killed_leaves_an_error_and_nothing_else(
    tmp_path: Path, method: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_image(tmp_path)
    directory = tmp_path / "work"
    directory.mkdir()

    def killing(image: Path, *arguments: Any) -> Any:
        @contextmanager
        def kill() -> Iterator[Any]:
            with real(image, *arguments) as export:
                if when == "before the work":
                    kill_exporters(directory)
                yield export
                if when == "after the work":
                    kill_exporters(directory)

        return kill()

    server = fuse if method == "fuse" else nbd
    name = "mounted" if method == "fuse" else "exported"
    real = getattr(server, name)
    monkeypatch.setattr(server, name, killing)
    with pytest.raises(PyguixvmError):
        grow(
            base,
            "raw",
            directory / "o",
            90 * MIB,
            emit=ignore,
            environment={METHOD_VARIABLE: method},
        )
    assert list(directory.iterdir()) == []
    assert str(directory) not in Path("/proc/self/mounts").read_text()


def kill_exporters(directory: Path) -> None:
    """Kill what serves an image in DIRECTORY, and return when it is gone."""
    pids = [each.pid for each in processes_naming(directory)]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        while state(pid) not in {"Z", None}:
            time.sleep(0.005)


def state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def elsewhere(prefix: list[str], base: Path, result: Path, size: int) -> list[str]:
    """Grow BASE to RESULT in a process that PREFIX starts; return its method and what it says."""
    program = f"""
import pathlib
from pyguixvm.image.grow import grow
said = []
base, result = pathlib.Path({str(base)!r}), pathlib.Path({str(result)!r})
grown = grow(base, "raw", result, {size}, emit=said.append)
print(grown.method, *(event.message.splitlines()[0] for event in said), sep="\\n")
"""
    done = run([*prefix, sys.executable, "-c", program])
    raw = raw_of(result)
    check_file_system(raw, last_partition(raw))
    assert files(raw, last_partition(raw)) == files(base, last_partition(base))
    return done.text.splitlines()


def test_where_fuse_is_forbidden_it_is_done_without(tmp_path: Path) -> None:
    assert fuse.available()
    # Neither root itself nor a program that is setuid may mount anything then.
    forbidden = ["setpriv", "--no-new-privs"]
    if os.geteuid() == 0:
        forbidden += ["--bounding-set=-sys_admin"]
    said = elsewhere([*forbidden, "--"], make_image(tmp_path), tmp_path / "o.qcow2", 300 * MIB)
    assert said[0] == "metadata"
    assert said[1].startswith("the image is grown without FUSE, since this command failed")


def test_a_small_memory_is_enough() -> None:
    small = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && PYGUIXVM_GROW=metadata exec "$@"'
    prefix = ["unshare", "--map-root-user", "--mount", "--", "sh", "-c", small, "--"]
    # What tests have in memory, that one hides.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        said = elsewhere(prefix, make_image(directory), directory / "o.qcow2", 3072 * MIB)
    assert said == ["metadata"]


def test_an_overlay_that_is_damaged_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_image(tmp_path)
    real = nbd.exported

    @contextmanager
    def damaging(image: Path, backing: Path) -> Iterator[nbd.Export]:
        with real(image, backing) as export:
            yield export
        with image.open("r+b") as file:
            # Entries of the first level's table that lead to where nothing is.
            file.seek(0x30000)
            file.write(b"\x80\0\0\0\x7f\xff\0\0" * 2)

    monkeypatch.setattr(nbd, "exported", damaging)
    environment = {METHOD_VARIABLE: "metadata"}
    with pytest.raises(ImageError):
        grow(base, "raw", tmp_path / "o", 90 * MIB, emit=ignore, environment=environment)
    assert not (tmp_path / "o").exists()


def test_a_partition_without_a_file_system_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(3 * MIB)
    run(["sfdisk", "-q", "--no-tell-kernel", str(image)], stdin=b"label: dos\n2048,\n")
    with pytest.raises(RequestRefusedError, match="neither ext4 nor btrfs"):
        grow(image, "raw", tmp_path / "o", 200 * MIB, emit=ignore, environment={})
    assert not (tmp_path / "o").exists()


def test_an_image_without_partitions_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    with pytest.raises(RequestRefusedError, match="no partition table"):
        grow(image, "raw", tmp_path / "o", 2 * MIB, emit=ignore, environment={})


def test_a_damaged_file_system_is_refused(tmp_path: Path) -> None:
    base = make_image(tmp_path)
    base.chmod(0o644)
    run(
        ["debugfs", "-w", "-R", "clri <2>", f"image?offset={3 * MIB}"],
        directory=tmp_path,
    )
    with pytest.raises(RequestRefusedError, match="damaged"):
        grow(base, "raw", tmp_path / "o", 90 * MIB, emit=ignore, environment={})


@pytest.mark.parametrize(
    ("ends", "told", "hint"),
    [("kill -KILL $$", "ended by SIGKILL", "30 minutes of CPU time"), ("exit 8", "status 8", "")],
)
def test_a_check_that_does_not_come_to_its_end_calls_nothing_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, told: str, hint: str
) -> None:
    base = make_image(tmp_path)
    programs = tmp_path / "programs" / "bin"
    programs.mkdir(parents=True)
    e2fsck = programs / "e2fsck"
    e2fsck.write_text(f"#!/bin/sh\n{ends}\n")
    e2fsck.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    environment = {METHOD_VARIABLE: "copy"}
    with pytest.raises(PyguixvmError) as failed:
        grow(base, "raw", tmp_path / "o", 90 * MIB, emit=ignore, environment=environment)
    assert isinstance(failed.value, CommandFailedError)
    assert told in failed.value.message
    assert "damaged" not in failed.value.message
    assert hint in (failed.value.hint or "")


@pytest.mark.parametrize("method", METHODS)
def test_a_file_system_that_is_newer_than_e2fsprogs_is_not_called_damaged(
    tmp_path: Path, method: str
) -> None:
    base = make_image(tmp_path)
    base.chmod(0o644)
    run(
        ["debugfs", "-w", "-R", "feature FEATURE_I31", f"image?offset={3 * MIB}"],
        directory=tmp_path,
    )
    environment = {METHOD_VARIABLE: method}
    with pytest.raises(RequestRefusedError, match=r"older than .* unsupported feature") as refused:
        grow(base, "raw", tmp_path / "o", 90 * MIB, emit=ignore, environment=environment)
    assert "damaged" not in refused.value.message
    assert "Install e2fsprogs as new" in (refused.value.hint or "")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_btrfs_is_refused(tmp_path: Path, method: str) -> None:
    base = make_btrfs_image(tmp_path)
    base.chmod(0o644)
    with base.open("r+b") as file:
        file.seek(3 * MIB + 65536 + 0x100)
        file.write(b"damage")
    with pytest.raises(RequestRefusedError, match="damaged: the checksum of its superblock"):
        grow(
            base,
            "raw",
            tmp_path / "o",
            200 * MIB,
            emit=ignore,
            environment={METHOD_VARIABLE: method},
        )
    assert not (tmp_path / "o").exists()


def test_fuse_is_not_available_without_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "_DAEMON", "no-such-daemon")
    assert not fuse.available()
