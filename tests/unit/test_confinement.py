# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs can do that read what strangers wrote, tried by programs that mean harm.

They run as who runs the tests, root included.
"""

from __future__ import annotations

import os
import socket
import struct
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


def python(program: str, *, reads: tuple[Path, ...] = (), writes: tuple[Path, ...] = ()) -> str:
    installed = (Path(sys.prefix), Path(sys.base_prefix))
    return confined(sys.executable, "-c", program, reads=(*reads, *installed), writes=writes)


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


@pytest.mark.parametrize("harm", ["echo x > {}", "rm {}", "mv {} {}2", "ln {} {}2"])
def test_it_writes_only_where_it_is_told_to(secret: Path, harm: str) -> None:
    with pytest.raises(CommandFailedError):
        confined("sh", "-c", harm.format(secret, secret), reads=(secret.parent,))
    assert [each.name for each in secret.parent.iterdir()] == ["secret"]
    assert secret.read_text() == "mellon"
    confined("sh", "-c", f"echo friend > {secret}", writes=(secret,))
    assert secret.read_text() == "friend\n"


@pytest.mark.parametrize(
    "harm",
    [
        "os.chmod({!r}, 0o4755)",
        "os.chmod(os.open({!r}, os.O_RDONLY), 0o4755)",
        "os.chmod(os.path.basename({!r}), 0o4755, dir_fd=os.open(os.path.dirname({!r}), 0))",
        "os.chown({!r}, os.getuid(), os.getgid())",
        "os.lchown({!r}, os.getuid(), os.getgid())",
        "os.chown(os.open({!r}, os.O_RDONLY), os.getuid(), os.getgid())",
        "os.utime({!r}, (0, 0))",
        "os.utime(os.open({!r}, os.O_RDONLY), (0, 0))",
        "os.setxattr({!r}, 'user.x', b'x')",
        "os.setxattr({!r}, 'user.x', b'x', follow_symlinks=False)",
        "os.setxattr(os.open({!r}, os.O_RDONLY), 'user.x', b'x')",
        "os.removexattr({!r}, 'user.kept')",
        # FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR and FS_IOC_SETVERSION; two of them take who reads it.
        "fcntl.ioctl(os.open({!r}, os.O_RDONLY), 0x40086602, (0x40).to_bytes(8, 'little'))",
        "fcntl.ioctl(os.open({!r}, os.O_RDONLY), 0x401c5820, bytes(28))",
        "fcntl.ioctl(os.open({!r}, os.O_RDONLY), 0x40087602, bytes(8))",
    ],
)
def test_what_is_known_about_a_file_stays(secret: Path, harm: str) -> None:
    os.setxattr(secret, "user.kept", b"x")
    before = secret.stat()
    program = f"import fcntl, os; {harm.format(str(secret), str(secret))}"
    with pytest.raises(CommandFailedError, match="Operation not permitted"):
        python(program, reads=(secret.parent,), writes=(secret,))
    after = secret.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime_ns,
    )
    assert os.listxattr(secret) == ["user.kept"]


@pytest.mark.parametrize("request_number", [0xC020660B, 0x40049409, 0x4020940D])
def test_what_copies_an_image_may_ask_for_its_extents(secret: Path, request_number: int) -> None:
    """FS_IOC_FIEMAP, FICLONE and FICLONERANGE, whatever the file system says to them."""
    program = (
        f"import fcntl, os; file = os.open({str(secret)!r}, os.O_RDWR)\n"
        f"try: fcntl.ioctl(file, {request_number}, bytes(32))\n"
        "except PermissionError: print('refused')\n"
        "except OSError: pass"
    )
    assert not python(program, writes=(secret,))


def test_root_s_capabilities_do_not_come_with_it() -> None:
    status = confined("cat", "/proc/self/status")
    sets = {line.split(":")[0]: int(line.split()[1], 16)
            for line in status.splitlines() if line.startswith("Cap")}  # fmt: skip
    # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    allowed = 0b110
    assert not (sets["CapEff"] | sets["CapPrm"] | sets["CapInh"] | sets["CapAmb"]) & ~allowed
    if os.geteuid() == 0:
        assert not sets["CapBnd"] & ~allowed


def test_it_does_not_get_at_the_kernel() -> None:
    # What they would say to nonsense is another thing.
    known = {"x86_64": (175, 313, 321), "ppc64le": (128, 353, 361)}
    calls = known.get(os.uname().machine, (105, 273, 280))
    for number in calls:
        program = "import ctypes as c, os; l = c.CDLL(None, use_errno=True); " \
            f"l.syscall({number}, -1, 0, 0); print(os.strerror(c.get_errno()))"  # fmt: skip
        assert python(program) == "Operation not permitted"


def test_it_gives_bounds_to_no_other_process() -> None:
    """One that can open and write nothing any more is as good as ended, or worse."""
    with pytest.raises(CommandFailedError, match="Operation not permitted"):
        python(
            "import os, resource; most = resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE); "
            "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, most)"
        )
    # It may know its own, and lower them.
    assert python(
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    ) == "(0, 0)"  # fmt: skip


def test_it_makes_files_in_a_directory_of_its_own(tmp_path: Path) -> None:
    confined("sh", "-c", f"echo x > {tmp_path}/new && rm {tmp_path}/new", writes=(tmp_path,))
    with pytest.raises(CommandFailedError):
        confined("mkdir", tmp_path / "directory", writes=(tmp_path,))
    with pytest.raises(CommandFailedError):
        confined("mknod", tmp_path / "device", "c", "1", "3", writes=(tmp_path,))


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET", "AF_NETLINK"])
def test_it_opens_no_socket(family: str) -> None:
    with pytest.raises(CommandFailedError, match="Operation not permitted"):
        python(f"import socket as s; s.socket(s.{family}, s.SOCK_RAW)")


LISTENING = """
import socket as s, sys
where = sys.argv[1]
with s.socket(s.AF_UNIX) as server:
    server.bind(where + "/socket")
    server.listen()
for attempt in (
    lambda: s.socket(s.AF_UNIX).connect(where + "/socket"),
    lambda: s.socket(s.AF_UNIX, s.SOCK_DGRAM),
    lambda: s.socket(s.AF_UNIX, s.SOCK_SEQPACKET | s.SOCK_CLOEXEC),
    lambda: s.socket(s.AF_INET),
    lambda: s.socket(s.AF_NETLINK, s.SOCK_RAW),
    lambda: s.socket(s.AF_UNIX).bind(where + "/../socket"),
):
    try:
        attempt()
    except PermissionError:
        continue
    sys.exit("it could")
print("bound")
"""


def test_one_that_listens_does_so_in_its_directory_and_reaches_nobody(tmp_path: Path) -> None:
    installed = (Path(sys.prefix), Path(sys.base_prefix))
    place = tmp_path / "place"
    place.mkdir()
    done = process.run(
        [sys.executable, "-c", LISTENING, str(place)],
        confined=Confinement(reads=installed, listens=place),
    )
    assert done.text == "bound"


def test_it_gains_no_rights() -> None:
    assert "NoNewPrivs:\t1" in confined("cat", "/proc/self/status")


def test_it_takes_no_more_memory_than_there_is_for_it() -> None:
    with pytest.raises(CommandFailedError, match="MemoryError"):
        python("import time; time.sleep(0.5); bytearray(5 << 30)")


def test_a_python_of_32_bits_makes_no_filter_of_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would refuse every call of the programs there, whose architecture is another one."""
    calcsize = struct.calcsize
    assert "Seccomp:\t2" in confined("cat", "/proc/self/status")
    monkeypatch.setattr(struct, "calcsize", lambda what: 4 if what == "P" else calcsize(what))
    assert "Seccomp:\t0" in confined("cat", "/proc/self/status")


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
