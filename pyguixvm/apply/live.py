# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the operating system of a guest while it runs, by its agent, or else by ssh."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pyguixvm.apply.context import Workshop
from pyguixvm.errors import HalfDoneError, HypervisorError, LostLockError, NotLiveError
from pyguixvm.events import GuestOutput, PhaseResult, phase
from pyguixvm.guix.activation import BootWanted, LiveSystem, Target
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.guest import delivery, parcel_disk
from pyguixvm.hypervisor.guest.delivery import Delivered
from pyguixvm.image import parcel
from pyguixvm.image.workplace import workplace
from pyguixvm.model.sizes import format_size
from pyguixvm.model.store_item import StoreItem
from pyguixvm.plan.actions import PrepareSystem

_OTHERWISE = "Deploy with --strategy auto for a new root volume, which takes a boot."
# What is larger (bytes) is there sooner as a disk than through the agent: measured under TCG,
# 1 MiB took 2.1 s by the agent and 2.4 s as a disk, 8 MiB 7.1 and 2.8 s, 50 MiB as a disk 4.1 s.
_LARGE = 2 * 1024**2
# Of what a program wrote to standard error, that much is told (characters).
_LONGEST = 300
# It names services, one in a line: more than a guest has, unless it wants to tire who reads.
_MOST_LINES = 1000
# What it wrote to standard output: see guix/pyguixvm/build/live.scm.
_Done = Mapping[str, Sequence[str]]


def prepare_live(machine: str, action: PrepareSystem, workshop: Workshop) -> LiveSystem:
    """Build what the guest of MACHINE is to run; return it.

    Raises BuildError, and NotLiveError if its guest cannot be given that.
    """
    if workshop.activation is None:
        raise ValueError("there is no configuration to change a guest to")
    connection = workshop.connection
    with phase(workshop.emit, "build", machine) as result:
        by = _carrier(machine, workshop)
        current = domains.read_metadata(connection, machine).generation
        workshop.require(machine)
        # What a run that was killed left.
        parcel_disk.take_away(connection, machine, current.pool, workshop.sleep)
        system = workshop.activation.prepare_live(
            Target(machine, action.system, action.root_uuid, current.system, current.switched_by)
        )
        result.detail = f"{system.system}, to be sent by {by.words}"
    return system


def activate_live(machine: str, system: LiveSystem, workshop: Workshop) -> BootWanted | None:
    """Have the guest of MACHINE run SYSTEM; return as `activate`.

    Raises HalfDoneError if the guest may be anything in between, another error if
    it was not begun.
    """
    until = f"within {delivery.PATIENCE:g} s"
    with phase(workshop.emit, "activate", machine, until) as result:
        done = _delivered(machine, system, workshop, result)
    for name in done["left"]:
        workshop.warn(
            machine, f"service {name} has changed, and runs as it was until it is restarted"
        )
    for name in done["failed"]:
        workshop.warn(machine, f"service {name} did not do what it was told")
    wanted = done["restart"]
    return BootWanted(kernel_loaded="kexec" in wanted) if wanted else None


def _delivered(machine: str, system: LiveSystem, workshop: Workshop, result: PhaseResult) -> _Done:
    items = system.items
    came = _sent(machine, system, items, workshop)
    # It gets what it is to run, and nothing else of this store that it may ask for.
    said = set(came.missing)
    missing = tuple(each for each in system.closure if each in said)
    if missing:
        # What it had was collected as garbage meanwhile, or nobody knows what it has.
        present = set(system.closure) - set(missing)
        items = workshop.store.items_beyond(present, missing)
        came = _sent(machine, system, items, workshop)
    done = _understood(machine, came)
    size = format_size(sum(item.nar_size for item in items))
    upgraded = [f"{word} {name}" for word in ("restarted", "started") for name in done[word]]
    result.detail = ", ".join([f"{size} sent", *upgraded])
    return done


def _carrier(machine: str, workshop: Workshop) -> delivery.Carrier:
    """Return what reaches the guest of MACHINE.  Raises NotLiveError if nothing does."""
    found = delivery.carrier(workshop.connection, machine, workshop.sleep, workshop.clock)
    if found is None:
        raise NotLiveError(
            f"'{machine}' cannot be changed live: its guest has no agent that runs programs, and "
            "does not let root in by ssh with a host key that is known",
            hint="Let it run qemu-guest-agent-service-type; or log in once, by a key in your ssh "
            f"agent: pyguixvm ssh root@{machine}.  " + _OTHERWISE,
        )
    return found


def _sent(
    machine: str, system: LiveSystem, items: Sequence[StoreItem], workshop: Workshop
) -> Delivered:
    by = _carrier(machine, workshop)
    with workplace() as directory, ExitStack() as plugged:
        file = directory / "parcel.tar"
        parcel.pack(file, items, system.closure)
        workshop.require(machine)
        on_a_disk = file.stat().st_size >= _LARGE and _plugged(machine, file, plugged, workshop)
        return delivery.deliver(
            by,
            None if on_a_disk else file,
            system.program,
            lambda line: workshop.emit(GuestOutput(machine, line)),
        )


def _plugged(machine: str, file: Path, plugged: ExitStack, workshop: Workshop) -> bool:
    """Give the guest of MACHINE what FILE holds as a disk until PLUGGED is closed; or return False.

    Not every domain has a free port.  Raises LostLockError.
    """
    connection = workshop.connection
    pool = domains.read_metadata(connection, machine).generation.pool
    try:
        plugged.enter_context(parcel_disk.plugged(connection, machine, pool, file, workshop.sleep))
    except LostLockError:
        raise
    except HypervisorError as error:
        workshop.warn(machine, f"what it lacks goes through its agent: {error.message}")
        return False
    return True


def _understood(machine: str, came: Delivered) -> _Done:
    """Return what was done, as names of services by what was done to them; or raise."""
    ran = came.ran
    told = "" if ran is None else _last_words(ran.err)
    if not came.unpacked or came.missing:
        raise NotLiveError(
            f"the guest of '{machine}' did not take what it lacks{told}",
            hint="It is as it was.  Has its root room enough?  " + _OTHERWISE,
        )
    if ran is None:
        raise HalfDoneError(f"the guest of '{machine}' does not say what became of its change")
    done: dict[str, list[str]] = defaultdict(list)
    for line in ran.out.splitlines()[:_MOST_LINES]:
        word, _, what = line.partition(" ")
        done[word].append(what[:_LONGEST])
    if ran.status != 0 or "done" not in done:
        raise HalfDoneError(f"the guest of '{machine}' failed to switch to its system{told}")
    return done


def _last_words(text: str) -> str:
    told = text.strip()[-_LONGEST:]
    return f": {told}" if told else ""
