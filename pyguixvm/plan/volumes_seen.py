# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody did to the volumes of a machine without giving them other names; pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import ObservedDomain
from pyguixvm.model.volume_names import data_of


def volume_differences(machine: VirtualMachine, domain: ObservedDomain) -> Iterator[Difference]:
    """Yield how the volumes of DOMAIN differ from what MACHINE declares, which no deploy mends."""
    yield from _of_another_size(machine, domain)
    yield from _of_another_place(domain)


def _of_another_size(machine: VirtualMachine, domain: ObservedDomain) -> Iterator[Difference]:
    used, metadata = domain.statistics, domain.metadata
    if used is None or metadata is None:
        return
    current = metadata.generation
    declared = current.declaration.domain.storage
    if declared != machine.domain.storage:
        return  # which takes another root, and is told as that
    for disk in used.disks:
        name = PurePosixPath(disk.source or "").name
        if name == current.volume and disk.capacity not in {None, declared}:
            yield Difference("domain.storage", disk.capacity, declared, "none")


def _of_another_place(domain: ObservedDomain) -> Iterator[Difference]:
    """Yield the disks that DOMAIN would start with from files of their names elsewhere."""
    if domain.live is None or domain.metadata is None:
        return
    live = {disk.target: disk.source for disk in domain.live.stacks}
    for disk in domain.defined.stacks:
        runs = PurePosixPath(live.get(disk.target, ""))
        defined = PurePosixPath(disk.source)
        if runs.is_absolute() and defined.is_absolute():
            named = data_of(defined.name)
            if runs.name == defined.name and runs != defined:
                path = "root" if named is None else f"domain.disks.{named[1]}"
                yield Difference(path, str(defined), str(runs), "none")
