# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples are deployed, and then as declared; those of firmware and btrfs have own tests.

The smallest one is the demo's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from running import CONFIGS, EXAMPLES, MODULES, pyguixvm

AS_USERS_HAVE_IT = True


def deployed_twice(config: Path, *machines: str) -> None:
    """Deploy CONFIG, which declares MACHINES; nothing is to be done for it afterwards."""
    pyguixvm("undefine", "--yes", "--delete-data", *machines)
    try:
        first = pyguixvm("deploy", config)
        assert first.status == 0, first.err
        assert [line.split()[:2] for line in first.out.splitlines()] == [
            [machine, "deployed:"] for machine in machines
        ]
        planned = pyguixvm("plan", "--exit-code", config)
        assert planned.status == 0, planned.out
        seen = pyguixvm("status", "--exit-code", config)
        assert seen.status == 0, seen.out
        again = pyguixvm("deploy", config)
        assert again.out == "".join(f"{machine} unchanged, nothing to do\n" for machine in machines)
        # A new system needs no more than this.
        stopped = pyguixvm("shutdown", *machines)
        assert stopped.out == "".join(f"{m}: shut down by its guest agent\n" for m in machines)
    finally:
        pyguixvm("undefine", "--yes", "--delete-data", *machines)


def test_two_machines_are_deployed_side_by_side_once() -> None:
    deployed_twice(EXAMPLES / "two-machines.scm", "web", "db")


def test_a_disk_image_that_exists_is_deployed_once(tmp_path: Path) -> None:
    # Of a system that boots sooner than an example does.
    built = pyguixvm("build", CONFIGS / "agent.scm", GUILE_LOAD_PATH=str(MODULES))
    assert built.status == 0, built.err
    config = shutil.copy(EXAMPLES / "local-image.scm", tmp_path)
    image = tmp_path / "disk.qcow2"
    shutil.copy(built.out.strip(), image)
    image.chmod(0o600)
    deployed_twice(Path(config), "imported")
