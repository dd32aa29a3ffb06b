# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline by hand: what somebody types, or has a script type, to get a running machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from measure import Cost, FailedCommandError, run, virsh, weighed, writing
from workspace import Workspace

_NAME = "by-hand"
_MAC = "52:54:00:be:9c:99"
_TEMPLATE = Path(__file__).parent / "configs" / "domain.xml"
_POOL = Path("/var/lib/libvirt/images")
_SIZE = "10G"
_PATIENCE = 900.0


def deploy(work: Workspace, *, boot: bool = True, memory: int = 1024**3) -> Cost:
    """Do all of it, whatever changed; without BOOT, up to the definition.

    The image is made while the old guest runs; then that is powered off, which is quicker
    than to shut it down.
    """
    phases: dict[str, float] = {}
    target = _POOL / f"{_NAME}.qcow2"
    raw = work.directory / "by-hand.raw"

    def step(phase: str, body: Callable[[], object]) -> None:
        begun = time.perf_counter()
        body()
        phases[phase] = phases.get(phase, 0.0) + time.perf_counter() - begun

    begun = time.perf_counter()
    with writing() as written:
        image = weighed("guix", "system", "image", "-t", "qcow2", work.system)
        phases["build"] = image.seconds
        step("stop", _power_off)
        step("copy", lambda: run("cp", "--sparse=always", image.out.strip(), target))
        step("grow", lambda: _grow(target, raw))
        step("define", lambda: _define(work, target, memory))
        if boot:
            before = _leases()
            step("start", lambda: virsh("start", _NAME))
            step("ready", lambda: _await_lease(before))
        spent = time.perf_counter() - begun
        bytes_written = written()
    return Cost(
        seconds=spent,
        phases=phases,
        written=bytes_written,
        sent=target.stat().st_blocks * 512,
        memory=image.memory,
    )


def remove() -> None:
    _power_off()
    with suppress(FailedCommandError):
        virsh("undefine", _NAME)
    (_POOL / f"{_NAME}.qcow2").unlink(missing_ok=True)


def _power_off() -> None:
    with suppress(FailedCommandError):
        virsh("destroy", _NAME)


def _grow(target: Path, raw: Path) -> None:
    run("chmod", "u+w", target)
    run("qemu-img", "resize", target, _SIZE)
    run("qemu-img", "convert", "-O", "raw", target, raw)
    run("sh", "-c", f'echo ", +" | sfdisk -q -N 2 {raw}')
    table = json.loads(run("sfdisk", "-J", raw))["partitiontable"]
    last = table["partitions"][-1]
    place = f"{raw}?offset={last['start'] * 512}"
    run("sh", "-c", f"e2fsck -fp '{place}' || [ $? -eq 1 ]")
    run("resize2fs", place, f"{last['size'] // 2}K")
    # resize2fs cuts the file off where the file system would end without the offset.
    run("truncate", "-s", _SIZE, raw)
    run("qemu-img", "convert", "-O", "qcow2", raw, target)
    raw.unlink()


def _define(work: Workspace, target: Path, memory: int) -> None:
    xml = work.directory / "by-hand.xml"
    text = _TEMPLATE.read_text().replace("DISK", str(target)).replace("MEMORY", str(memory))
    xml.write_text(text)
    virsh("define", xml)


def _leases() -> list[str]:
    listed = virsh("net-dhcp-leases", "default")
    return [line for line in listed.splitlines() if _MAC in line]


def _await_lease(before: list[str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while _leases() in ([], before):
        if time.monotonic() > deadline:
            raise FailedCommandError("the guest by hand has no address")
        time.sleep(0.2)
