# SPDX-License-Identifier: GPL-3.0-or-later
"""It works wherever it is called: by cron, systemd, su and sudo, in containers, without a home.

The guest is none of Guix's, and nobody waits for it: a round takes seconds.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from running import Ran, command, virsh
from waiting import eventually

_NUMBERS = itertools.count(1)
_CONFIG = """(use-modules (pyguixvm))
(virtual-machine
 (name "{name}")
 (image (local-image "disk.raw"))
 (ready '())
 (libvirt-domain
  (memory 64M) (storage 16M)
  (disks (data-disk (name "db") (size 128M)))))
"""
# In a mount namespace of its own, CHANGE is done before the rest of the command.
_APART = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


def apart(change: str, *more: str) -> list[str]:
    return [*_APART, f'{change} && exec "$@"', "sh", *more]


# How the command is called, and what its environment is; what stands in braces is told by `run`.
CALLS: dict[str, list[str]] = {
    "cron": ["env", "-i", "PATH={path}", "HOME=/root", "SHELL=/bin/sh", "LOGNAME=root", "setsid"],
    "a systemd unit": [
        "env", "-i", "PATH={path}", "XDG_STATE_HOME=state", "setsid",
        "sh", "-c", 'umask 0 && exec "$@"', "sh",
    ],
    "su and sudo": [
        "env", "HOME={theirs}", "XDG_RUNTIME_DIR={theirs}", "SUDO_USER=nobody", "SUDO_UID=65534",
        "LC_ALL=C", "sh", "-c", 'umask 077 && exec "$@"', "sh",
    ],
    "a home that cannot be": [
        "env", "-u", "XDG_RUNTIME_DIR", "HOME=/proc/nonexistent", "TMPDIR=/nonexistent",
        "LC_ALL=POSIX", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0",
        "sh", "-c", 'ulimit -n 64 && exec "$@" <&- 2>&-', "sh",
    ],
    "a container": apart(
        "mount --bind /dev/null /dev/fuse && mount -t tmpfs -o size=64k none /dev/shm"
        " && mount --bind {mine} {mine} && mount -o remount,ro,bind {mine}",
        "env", "HOME={mine}", "unshare", "--pid", "--fork", "--mount-proc",
    ),
}  # fmt: skip


@pytest.fixture
def home() -> Iterator[dict[str, Path]]:
    """Yield two directories: of who runs the test, and of somebody else."""
    made = {name: Path(tempfile.mkdtemp(prefix="pyguixvm-test-")) for name in ("mine", "theirs")}
    shutil.chown(made["theirs"], 65534, 65534)
    yield made
    for directory in made.values():
        eventually(partial(removed, directory), 30)


def removed(directory: Path) -> bool:
    """Remove DIRECTORY; whether it is gone: an evaluator may still write what it compiled there."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Yield a name, and the file that declares a machine of that name."""
    name = f"env{os.getpid()}-{next(_NUMBERS)}"
    config = tmp_path / "config.scm"
    config.write_text(_CONFIG.format(name=name))
    with (tmp_path / "disk.raw").open("wb") as disk:
        disk.write(b"\xf4".ljust(510, b"\0") + b"\x55\xaa")
        disk.truncate(16 * 1024**2)
    yield name, config
    command("pyguixvm", "undefine", "--yes", "--delete-data", name)


@pytest.fixture
def run(home: dict[str, Path]) -> Callable[..., Ran]:
    def run(call: list[str], *arguments: str | Path) -> Ran:
        words = {name: str(path) for name, path in home.items()} | {"path": os.environ["PATH"]}
        return command(*(word.format(**words) for word in call), "pyguixvm", *arguments)

    return run


@pytest.mark.parametrize("how", CALLS)
def test_a_machine_comes_and_goes(
    machine: tuple[str, Path], home: dict[str, Path], run: Callable[..., Ran], how: str
) -> None:
    name, config = machine
    call = CALLS[how]
    before = set(Path("/").iterdir())
    deployed = run(call, "deploy", config)
    assert deployed.status == 0, deployed.err
    assert "Traceback" not in deployed.err
    assert virsh("domstate", name) == "running"
    removed = run(call, "undefine", "--yes", "--delete-data", name)
    assert removed.status == 0, removed.err
    # Guix itself goes by HOME, whosever that is.
    assert {each.name for each in home["theirs"].iterdir()} <= {".cache"}
    assert set(Path("/").iterdir()) == before
    assert {each.name for each in config.parent.iterdir()} == {"config.scm", "disk.raw"}
