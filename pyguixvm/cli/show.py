# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations and plans in words; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from pyguixvm.cli.differences import Paint, difference_lines, plain
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import Image, LocalImage, RemoteImage, SharedStore
from pyguixvm.model.sizes import format_size
from pyguixvm.model.transfer import Transfer
from pyguixvm.plan.actions import (
    Action,
    ActivateSystem,
    AttachDisk,
    AttachInterface,
    AwaitReady,
    CreateDisk,
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    DetachDisk,
    DetachInterface,
    FetchImage,
    GrowDisk,
    KeepLayer,
    MergeLayers,
    PrepareSystem,
    RealizeContent,
    RealizeImage,
    RealizeSystem,
    SetMemory,
    SetVcpus,
    StackRoot,
    StartDomain,
    StopDomain,
    UpdateInterface,
)
from pyguixvm.plan.plan import MachinePlan, Plan
from pyguixvm.plan.transfer import in_words
from pyguixvm.printable import printable

_SIGNS = {"none": " ", "live": "~", "restart": "~", "replace": "!", "create": "+", "delete": "-"}


def declared_line(machine: VirtualMachine) -> str:
    """Return one line that says what MACHINE is."""
    domain = machine.domain
    return (
        f"{machine.name}: {domain.cpu} CPU, {format_size(domain.memory)} memory, "
        f"{format_size(domain.storage)} storage, {_image(machine.image)}"
    )


def _image(image: Image) -> str:
    match image:
        case LocalImage(path=path):
            return path
        case RemoteImage(url=url):
            return url
        case SharedStore(label=label):
            return f"{label}, from the shared store"
        case _:
            return f"{image.label}, {image.root_file_system} root"


def plan_lines(plan: Plan, paint: Paint = plain) -> Iterator[str]:
    """Yield the lines that show PLAN to a person, what differs in colours of PAINT."""
    for machine in plan.machines:
        yield from _machine_lines(machine, plan.uri, paint)
    for name in plan.undeclared:
        yield f"- {name}: no longer declared on {plan.uri}; 'deploy --prune' removes it"


def _machine_lines(plan: MachinePlan, uri: str, paint: Paint) -> Iterator[str]:
    name = plan.machine.name
    if plan.refusal is not None:
        yield f"x {name}: refused: {printable(plan.refusal)}"
    elif not plan.actions and not plan.differences:
        yield f"  {name}: nothing to do"
    else:
        yield f"{_SIGNS[plan.effect]} {name}: {plan.effect} on {uri}{_downtime(plan)}"
    for line in difference_lines(plan.differences, paint, plan.system_changes):
        yield f"    {line}"
    if plan.strategy is not None:
        yield f"    strategy {plan.strategy}: {plan.reason}"
    for device in plan.foreign:
        yield f"    {printable(device)}: not ours, left as it is"
    if plan.new_pool is not None:
        yield f"    make pool {plan.new_pool}, a directory, which does not exist yet"
    for action in plan.actions:
        yield f"    {_action(action)}"
        if isinstance(action, CreateRoot):
            what = "its image" if action.content is None else "what changed"
            yield f"      {_moved(plan.bytes_to_move, plan.transfer, what)}"
    if plan.hint is not None:
        yield f"    {printable(plan.hint)}"


def _moved(size: int | None, how: Transfer | None, what: str) -> str:
    if size is None:
        return f"how much is copied for {what} is known once that is built"
    if how is not None and how.way == "store":
        return f"{what} is {in_words(how)}"
    why = f", not composed there: {printable(how.reason)}" if how and how.reason else ""
    copied = f"{format_size(size)} are" if size else "nothing is"
    return f"{copied} copied for {what}{why}"


def _downtime(plan: MachinePlan) -> str:
    if not any(isinstance(action, StopDomain) for action in plan.actions):
        return ""
    if plan.downtime is None:
        return ", away for a shutdown and a boot"
    return f", away for about {plan.downtime:.0f} s as the last time"


def _action(action: Action) -> str:  # noqa: PLR0911, PLR0912 -- one for each kind
    match action:
        case RealizeImage(output=output):
            return f"build {output}"
        case FetchImage(url=url, there=there):
            itself = "; the hypervisor fetches it itself, unless it has it" if there else ""
            return f"fetch {url}, unless it is here{itself}"
        case RealizeContent(content=content):
            return f"build {content.system.output}, and no image"
        case RealizeSystem(output=output):
            return f"build {output}, and no image"
        case CreateEmptyRoot(pool=pool, volume=volume, size=size):
            return f"create volume {volume} of {format_size(size)}, empty, in pool {pool}"
        case CreateRoot(pool=pool, volume=volume, size=size, content=content, image=image):
            made = f"create volume {volume} of {format_size(size)} in pool {pool}"
            return f"{made} from what changed since {image}" if content else made
        case CreateDisk(pool=pool, volume=volume, size=size, file_system=file_system):
            return f"create volume {volume} of {format_size(size)}, {file_system}, in pool {pool}"
        case GrowDisk(volume=volume, size=size):
            return f"use volume {volume}, which is there, with {format_size(size)}"
        case DefineDomain(autostart=autostart):
            return f"define the domain, autostart {'on' if autostart else 'off'}"
        case StopDomain(timeout=timeout, force=force, fast=fast):
            otherwise = ", then power it off" if force else ""
            first = "freeze its file systems and power it off, or else " if fast else ""
            return f"{first}shut it down within {timeout} s{otherwise}"
        case PrepareSystem(by=by):
            reached = "ssh" if by == "ssh" else "its agent, or else by ssh"
            return f"build its operating system for the disk that is there; reach it by {reached}"
        case StackRoot(volume=volume):
            return f"have its guest write to {volume} now, on top of its root"
        case KeepLayer(generation=generation):
            return f"have it be taken back with generation {generation}, which it changes once more"
        case MergeLayers(volumes=volumes, generations=generations):
            lost = ", ".join(map(str, generations))
            gone = f"; there is no way back to generations {lost} then" if lost else ""
            return f"merge {len(volumes)} volumes that its root stands on into one{gone}"
        case ActivateSystem(restart=restart):
            how = "restart it, by kexec where it can, if what it boots by changed"
            return f"switch its guest to the new system; {how if restart else 'no restart'}"
        case StartDomain(timeout=timeout):
            return f"start it and wait at most {timeout} s until it is ready"
        case AwaitReady(timeout=timeout):
            return f"wait at most {timeout} s until it is ready"
        case SetMemory(memory=memory):
            return f"give its guest {format_size(memory)} memory now"
        case SetVcpus(cpu=cpu):
            return f"give its guest {cpu} vCPUs now"
        case AttachInterface(mac_address=mac):
            return f"plug interface {mac} in now"
        case UpdateInterface(mac_address=mac):
            return f"connect interface {mac} as declared now"
        case DetachInterface(mac_address=mac):
            return f"unplug interface {mac} now"
        case AttachDisk(source=source):
            return f"plug disk {source} in now"
        case DetachDisk(source=source):
            return f"unplug disk {source} now; what it holds stays"
        case _:
            assert_never(action)
