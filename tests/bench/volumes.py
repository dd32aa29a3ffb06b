# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way to grow an image, against a sparse copy that is grown in place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Row, pair, run
from workspace import Workspace


def growths(runs: int, work: Workspace) -> Iterator[Row]:
    work.edit()
    image = Path(run("pyguixvm", "build", work.system).strip())
    directory = work.directory
    grow = (
        "import sys; from pathlib import Path; from pyguixvm.image.grow import grow\n"
        "overlay = Path(sys.argv[2]); overlay.unlink(missing_ok=True)\n"
        "grow(Path(sys.argv[1]), 'raw', overlay, 10 * 1024**3, emit=lambda event: None)\n"
    )
    copy = directory / "copy.raw"
    by_hand = (
        'cp --sparse=always "$1" "$2" && chmod u+w "$2" && truncate -s 10G "$2" &&'
        ' echo ", +" | sfdisk -q -N 2 "$2" &&'
        ' start=$(sfdisk -J "$2" | grep -o "\\"start\\": *[0-9]*" | tail -1 | tr -dc 0-9) &&'
        ' dd if="$2" of="$2.part" bs=1M skip=$((start / 2048)) conv=sparse status=none &&'
        ' { e2fsck -fp "$2.part" >/dev/null || [ $? -eq 1 ]; } &&'
        ' resize2fs "$2.part" >/dev/null 2>&1 &&'
        ' dd if="$2.part" of="$2" bs=1M seek=$((start / 2048)) conv=sparse,notrunc status=none &&'
        ' qemu-img convert -O qcow2 "$2" "$2.qcow2"'
    )
    for method, goal in (("fuse", 1.0), ("metadata", 1.0), ("copy", 1.5)):
        yield pair(
            f"grow to 10G: {method}",
            lambda method=method: run(
                sys.executable, "-c", grow, image, directory / "grown", PYGUIXVM_GROW=method
            ),
            lambda: run("sh", "-c", by_hand, "grow", image, copy),
            "copy, sfdisk, resize2fs, convert", runs, goal,
        )  # fmt: skip
