# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who is not root has machines, on the hypervisor of all and on one of their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boot_sector
import pytest
from guest import eventually
from running import CONFIGS, EXAMPLES, Ran, collected, command, pyguixvm

NOBODY = "65534"
# To read this checkout, wherever it is, and to enter the test bed's Guix.
CAPABILITIES = "+dac_read_search,+sys_chroot"

MACHINE = """
(virtual-machine
  (name "of-the-group")
  (image (local-image "disk.raw"))
  (libvirt-domain (memory 64M) (storage 16M))
  (ready '()))
"""


@pytest.fixture
def operator() -> Iterator[Callable[..., Ran]]:
    """Yield what runs pyguixvm as a user without rights, but for those of GROUPS."""
    home = Path(tempfile.mkdtemp(prefix="pyguixvm-test-"))
    (home / "shared").mkdir()
    for directory in (home, home / "shared"):
        shutil.chown(directory, int(NOBODY), int(NOBODY))

    def run(*arguments: str | Path, groups: str = "") -> Ran:
        return command(
            "setpriv", "--reuid", NOBODY, "--regid", NOBODY,
            *(["--groups", groups] if groups else ["--clear-groups"]),
            "--inh-caps", CAPABILITIES, "--ambient-caps", CAPABILITIES,
            "env", "-u", "XDG_RUNTIME_DIR", f"HOME={home}", f"TMPDIR={home}", "USER=nobody",
            f"PYGUIXVM_TEST_SHARED={home}/shared", "pyguixvm", *arguments,
            directory=home,
        )  # fmt: skip

    yield run
    run("undefine", "--yes", "--delete-data", "session")
    shutil.rmtree(home)


def test_a_hypervisor_of_ones_own_needs_no_rights(operator: Callable[..., Ran]) -> None:
    config = CONFIGS / "session.scm"
    shared = Path(operator("xml", config).out.split('<source dir="')[1].split('"')[0])
    (shared / "question").write_text("42")
    deployed = operator("deploy", config)
    assert deployed.status == 0, deployed.err
    assert operator("status", "--exit-code", config).status == 0
    # By 9p, since libvirt refuses virtiofs here.  Who logs in is asked before all is started.
    answer = shared / "answer"
    eventually(lambda: answer.exists() and answer.read_text() == "42")
    # Where Guix's garbage collector looks, be the home there or not.
    (link,) = Path("/var/guix/profiles/per-user/nobody/pyguixvm").glob("qemu-session-nobody-*/*/1")
    assert not collected(str(link.readlink()))
    assert operator("undefine", "--yes", "--delete-data", "session").status == 0
    assert not link.parent.exists()


def test_the_hypervisor_of_all_takes_its_group(operator: Callable[..., Ran]) -> None:
    group = command("getent", "group", "libvirt").out.split(":")[2]
    for verb in ("check", "build", "plan"):
        done = operator("-c", "qemu:///system", verb, EXAMPLES / "minimal.scm", groups=group)
        assert done.status == 0, done.err
    refused = operator("-c", "qemu:///system", "plan", EXAMPLES / "minimal.scm")
    assert refused.status == 5
    assert "group 'libvirt'" in refused.err


def test_the_group_is_enough_to_deploy(
    operator: Callable[..., Ran], clean: Callable[[str], None], tmp_path: Path
) -> None:
    group = command("getent", "group", "libvirt").out.split(":")[2]
    (tmp_path / "disk.raw").write_bytes(boot_sector.on_disk(boot_sector.halting()))
    config = tmp_path / "config.scm"
    config.write_text(MACHINE)
    clean("of-the-group")
    where = ("-c", "qemu:///system")
    deployed = operator(*where, "deploy", config, groups=group)
    assert deployed.status == 0, deployed.err
    # It is everybody's of the group: whoever comes finds it as declared, and may take it away.
    assert pyguixvm(*where, "status", "--exit-code", config).status == 0
    removed = operator(*where, "undefine", "--yes", "of-the-group", groups=group)
    assert removed.status == 0, removed.err
    assert "denied" not in deployed.err + removed.err
