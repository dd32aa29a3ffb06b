# SPDX-License-Identifier: GPL-3.0-or-later
"""Why nothing may be done to a machine, although its declaration asks for it; pure.

Each function raises RequestRefusedError, which says what stands in the way and
what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyguixvm.advice import words
from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.sizes import sizes_apart, written_size
from pyguixvm.model.unreactive import require_reactive
from pyguixvm.model.volume_names import data_volume, file_name
from pyguixvm.plan.actions import StopDomain
from pyguixvm.plan.data_volumes import volume_refusal
from pyguixvm.plan.disks import all_disks, data_disks, storage_refusal
from pyguixvm.plan.interference import require_own_disks, require_volumes
from pyguixvm.plan.plan import MachinePlan, Policy
from pyguixvm.plan.strategies.shared_store import require_shareable

UNPROTECT_HINT = "Give --unprotect as well, or declare (protect? #f) first."


def require_possible(machine: VirtualMachine, observation: Observation, policy: Policy) -> None:
    """Raise unless MACHINE can be on the hypervisor of OBSERVATION in the way of POLICY."""
    _require_fitting(machine, observation)
    if policy.strategy == "shared-store":
        require_shareable(machine, observation)


def _require_fitting(machine: VirtualMachine, observation: Observation) -> None:
    """Raise if MACHINE is to have more than the host: a guest would be stopped, and not start.

    With as much as it runs with already, it does.
    """
    domain, host = observation.domains.get(machine.name), observation.host
    live, wanted = domain.live if domain else None, machine.domain
    runs_with = live.maximum_memory if live else 0
    for field, size in (("memory", wanted.memory), ("maximum-memory", wanted.maximum_memory)):
        if host.memory is not None and size > max(host.memory, runs_with):
            _, has = sizes_apart(size, host.memory)
            raise RequestRefusedError(
                f"'{machine.name}' is to have ({field} {written_size(size)}), and the host of "
                f"{observation.uri} has {has}",
                hint="Declare less, or another hypervisor.",
            )
    if host.maximum_cpu is not None and wanted.maximum_cpu > host.maximum_cpu:
        raise RequestRefusedError(
            f"'{machine.name}' is to have up to {wanted.maximum_cpu} vCPUs, and a guest of "
            f"{observation.uri} can have {host.maximum_cpu}",
            hint="Declare less, or another hypervisor.",
        )


def require_ours(machine: VirtualMachine, domain: ObservedDomain) -> Metadata:
    """Return the metadata of DOMAIN, which is there for MACHINE; raise if it is another's."""
    if domain.unreadable is not None:
        raise RequestRefusedError(domain.unreadable, hint=domain.hint)
    if domain.metadata is None:
        raise RequestRefusedError(
            f"a domain named '{machine.name}' exists that pyguixvm did not make",
            hint="Nothing was done to it. Declare another name, or remove that domain yourself.",
        )
    return domain.metadata


def require_data_kept(
    machine: VirtualMachine,
    domain: ObservedDomain | None,
    observation: Observation,
    deployment: str | None = None,
) -> None:
    """Raise if data of MACHINE would be lost, or hidden, if its DOMAIN became what is declared.

    Or if it would get what is not its own, or another DEPLOYMENT's.
    """
    if domain is not None:
        require_own_disks(domain)
        require_volumes(domain)
    forbidden = volume_refusal(machine, domain, observation, deployment)
    if forbidden is None and domain is not None:
        forbidden = storage_refusal(machine, domain)
    if forbidden is not None:
        refusal, hint = forbidden
        raise RequestRefusedError(refusal, hint=hint)


def require_no_other_name(machine: VirtualMachine, observation: Observation) -> None:
    """Raise if a domain of OBSERVATION is MACHINE under a name that somebody else gave it.

    Another one of the declared name would get the same data disks.
    """
    for domain in observation.domains.values():
        if domain.renamed_from == machine.name:
            raise RequestRefusedError(
                f"machine '{machine.name}' is there under another name: {domain.unreadable}",
                hint=domain.hint,
            )


def require_free_data(machine: VirtualMachine, observation: Observation) -> None:
    """Raise if another domain of OBSERVATION uses a volume that MACHINE would get, and has not."""
    own = observation.domains.get(machine.name)
    wanted = {data_volume(machine.name, disk.name) for disk in data_disks(machine)}
    if own is not None:
        wanted -= {file_name(file) for file in all_disks(own)}
    for domain in observation.domains.values() if wanted else ():
        for volume in sorted(wanted & {file_name(file) for file in domain.defined.disks}):
            raise RequestRefusedError(
                f"'{machine.name}' would get the data in {volume}, which domain "
                f"'{domain.name}' uses",
                hint=f"'virsh detach-disk --config {words(domain.name)} …' takes it from that "
                "domain; or declare a disk of another name.",
            )


def owners_of_addresses(observation: Observation) -> dict[str, ObservedDomain]:
    """Return the domains of OBSERVATION by the MAC addresses of their interfaces."""
    return {
        interface.mac_address: domain
        for domain in observation.domains.values()
        for interface in domain.defined.interfaces
    }


def declarers_of_addresses(machines: Iterable[VirtualMachine]) -> dict[str, str]:
    """Return the name of the first of MACHINES that declares each MAC address."""
    declarers: dict[str, str] = {}
    for machine in machines:
        for interface in machine.domain.networking:
            declarers.setdefault(interface.mac_address.lower(), machine.name)
    return declarers


def require_own_addresses(
    machine: VirtualMachine, owners: Mapping[str, ObservedDomain], declarers: Mapping[str, str]
) -> None:
    """Raise if MACHINE has a MAC address of another one of OWNERS, or of DECLARERS.

    Libvirt would define both; then they take each other's leases and packets.
    """
    for mac in (interface.mac_address.lower() for interface in machine.domain.networking):
        first = declarers.get(mac, machine.name)
        if first != machine.name:
            raise RequestRefusedError(
                f"the MAC address {mac} of '{machine.name}' is that of '{first}', too, "
                "on the same hypervisor",
                hint="Declare another mac-address, or none for one that derives from the "
                "machine's name.",
            )
        owner = owners.get(mac)
        if owner is not None and owner.name != machine.name:
            whose = "that pyguixvm did not make" if owner.metadata is None else "of another machine"
            if owner.unreadable is not None:
                whose = f"of another machine ({owner.unreadable})"
            raise RequestRefusedError(
                f"the MAC address {mac} of '{machine.name}' is in use "
                f"by domain '{owner.name}', {whose}",
                hint="Nothing was done to either. Declare another mac-address, or none for one "
                "that derives from the machine's name; or change or remove that domain.",
            )


def require_replaceable(machine: VirtualMachine, policy: Policy, *, running: bool) -> None:
    """Raise unless POLICY allows MACHINE, which may be RUNNING, a new root volume."""
    if machine.protect and not policy.unprotect:
        raise RequestRefusedError(
            f"'{machine.name}' needs a new root volume, and is protected", hint=UNPROTECT_HINT
        )
    if running and not policy.restart:
        raise RequestRefusedError(
            f"'{machine.name}' needs a new root volume, and that a restart",
            hint="Deploy without --no-restart.",
        )


def require_stoppable(machine: VirtualMachine, policy: Policy) -> None:
    """Raise unless POLICY allows to end the guest of MACHINE in the way that it asks for."""
    if machine.protect and policy.force and not policy.unprotect:
        raise RequestRefusedError(
            f"'{machine.name}' is protected, and --force might power it off", hint=UNPROTECT_HINT
        )


def require_alive(domain: ObservedDomain, plan: MachinePlan) -> None:
    """Raise unless the guest of DOMAIN can do what PLAN, which was made for it, takes of it.

    Whoever may force it stops one that cannot.  One that crashed runs as little as one that
    is off, but somebody had it kept.
    """
    stops = [action for action in plan.actions if isinstance(action, StopDomain)]
    if not any(stop.force for stop in stops) and (stops or domain.state == "crashed"):
        try:
            require_reactive(domain.name, domain.state, domain.reason)
        except RequestRefusedError as error:
            hint = f"Nothing was done: {error.hint}."
            if stops:
                hint += " With --force, it is powered off, too."
            raise RequestRefusedError(error.message, hint=hint) from None


def require_takeable_back(machine: VirtualMachine, policy: Policy) -> None:
    """Raise unless POLICY allows to take a change of MACHINE's running guest back."""
    if machine.protect and not policy.unprotect:
        raise RequestRefusedError(
            f"'{machine.name}' is protected: if its change in place failed, it would be powered "
            "off and go back to before",
            hint=UNPROTECT_HINT,
        )
