# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest disk that guix/pyguixvm/sanitizers.scm lets be declared."""

from __future__ import annotations

import subprocess
from pathlib import Path

LARGEST = 2**51


def test_the_largest_image_is_qemus(tmp_path: Path) -> None:
    create = ["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "image")]
    assert subprocess.run([*create, str(LARGEST)], check=False).returncode == 0
    assert subprocess.run([*create, str(LARGEST + 512)], check=False).returncode != 0
