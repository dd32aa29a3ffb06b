# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs can do that read what strangers wrote, tried by programs that mean harm.

They run as who runs the tests, root included.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pyguixvm import process
from pyguixvm.confinement import Confinement
from pyguixvm.image import overlay
from pyguixvm.process import CommandFailedError


def confined(*argv: str | Path, reads: tuple[Path, ...] = (), writes: tuple[Path, ...] = ()) -> str:
    return process.run([str(each) for each in argv], confined=Confinement(reads, writes)).text


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("mellon")
    return file


def test_what_it_is_told_to_read_it_reads_and_nothing_else(secret: Path) -> None:
    assert confined("cat", secret, reads=(secret,)) == "mellon"
    assert confined("cat", secret, reads=(secret.parent,)) == "mellon"
    with pytest.raises(CommandFailedError, match="Permission denied"):
        confined("cat", secret)
    with pytest.raises(CommandFailedError, match="Permission denied"):
        confined("ls", secret.parent)
    # Neither by a link, nor by another name.
    link = secret.with_name("link")
    link.symlink_to(secret)
    with pytest.raises(CommandFailedError, match="Permission denied"):
        confined("cat", link, reads=(link.parent / "other",))


@pytest.mark.parametrize("harm", ["echo x > {}", "rm {}", "mv {} {}2", "ln {} {}2", "chmod 0 {}2"])
def test_it_writes_only_where_it_is_told_to(secret: Path, harm: str) -> None:
    with pytest.raises(CommandFailedError):
        confined("sh", "-c", harm.format(secret, secret), reads=(secret.parent,))
    assert [each.name for each in secret.parent.iterdir()] == ["secret"]
    assert secret.read_text() == "mellon"
    confined("sh", "-c", f"echo friend > {secret}", writes=(secret,))
    assert secret.read_text() == "friend\n"


def test_it_makes_files_in_a_directory_of_its_own(tmp_path: Path) -> None:
    confined("sh", "-c", f"echo x > {tmp_path}/new && rm {tmp_path}/new", writes=(tmp_path,))
    with pytest.raises(CommandFailedError):
        confined("mkdir", tmp_path / "directory", writes=(tmp_path,))
    with pytest.raises(CommandFailedError):
        confined("mknod", tmp_path / "device", "c", "1", "3", writes=(tmp_path,))


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET", "AF_NETLINK"])
def test_it_opens_no_socket(family: str) -> None:
    with pytest.raises(CommandFailedError, match="Operation not permitted"):
        confined(sys.executable, "-c", f"import socket as s; s.socket(s.{family}, s.SOCK_RAW)",
                 reads=(Path(sys.prefix), Path(sys.base_prefix)))  # fmt: skip


def test_it_gains_no_rights() -> None:
    assert "NoNewPrivs:\t1" in confined("cat", "/proc/self/status")


def test_it_takes_no_more_memory_than_there_is_for_it() -> None:
    with pytest.raises(CommandFailedError, match="MemoryError"):
        confined(sys.executable, "-c", "import time; time.sleep(0.5); bytearray(5 << 30)",
                 reads=(Path(sys.prefix), Path(sys.base_prefix)))  # fmt: skip


def test_who_starts_it_is_not_bound(secret: Path) -> None:
    confined("true")
    assert secret.read_text() == "mellon"
    socket.socket().close()
    assert process.run(["cat", str(secret)]).text == "mellon"


def test_an_image_that_names_another_file_does_not_get_it(secret: Path, tmp_path: Path) -> None:
    image, made = tmp_path / "in" / "image", tmp_path / "out" / "raw"
    for each in (image, made):
        each.parent.mkdir()
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", image, "1M"]
    subprocess.run(create, check=True)
    with pytest.raises(overlay.ImageError, match="Permission denied"):
        overlay.convert_to_raw(image, "qcow2", made)
    assert not made.exists()
