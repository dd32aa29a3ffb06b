# SPDX-License-Identifier: GPL-3.0-or-later
"""Why nothing may be done to a machine, although its declaration asks for it; pure.

Each function raises RequestRefusedError, which says what stands in the way and
what to do.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.deployment import VirtualMachine
from pyguixvm.model.generation import Metadata
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.sizes import format_size, written_size
from pyguixvm.reconcile.plan import Policy
from pyguixvm.reconcile.shared_store import require_shareable
from pyguixvm.reconcile.storage import storage_refusal

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
            raise RequestRefusedError(
                f"'{machine.name}' is to have ({field} {written_size(size)}), and the host of "
                f"{observation.uri} has {format_size(host.memory)}",
                hint="Declare less, or another hypervisor.",
            )
    if host.maximum_cpu is not None and wanted.maximum_cpu > host.maximum_cpu:
        raise RequestRefusedError(
            f"'{machine.name}' is to have up to {wanted.maximum_cpu} vCPUs, and a guest of "
            f"{observation.uri} can have {host.maximum_cpu}",
            hint="Declare less, or another hypervisor.",
        )


def require_ours(machine: VirtualMachine, domain: ObservedDomain) -> Metadata:
    """Return the metadata of DOMAIN; raise if it is another's, or if MACHINE would cost data."""
    if domain.unreadable is not None:
        raise RequestRefusedError(domain.unreadable)
    if domain.metadata is None:
        raise RequestRefusedError(
            f"a domain named '{machine.name}' exists that pyguixvm did not make",
            hint="Nothing was done to it. Declare another name, or remove that domain yourself.",
        )
    forbidden = storage_refusal(machine, domain)
    if forbidden is not None:
        refusal, hint = forbidden
        raise RequestRefusedError(refusal, hint=hint)
    return domain.metadata


def owners_of_addresses(observation: Observation) -> dict[str, ObservedDomain]:
    """Return the domains of OBSERVATION by the MAC addresses of their interfaces."""
    return {
        interface.mac_address: domain
        for domain in observation.domains.values()
        for interface in domain.defined.interfaces
    }


def require_own_addresses(machine: VirtualMachine, owners: Mapping[str, ObservedDomain]) -> None:
    """Raise if one of OWNERS other than MACHINE has a MAC address of it.

    Libvirt would define both; then they take each other's leases and packets.
    """
    for mac in (interface.mac_address.lower() for interface in machine.domain.networking):
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


def require_takeable_back(machine: VirtualMachine, policy: Policy) -> None:
    """Raise unless POLICY allows to take a change of MACHINE's running guest back."""
    if machine.protect and not policy.unprotect:
        raise RequestRefusedError(
            f"'{machine.name}' is protected: if its change in place failed, it would be powered "
            "off and go back to before",
            hint=UNPROTECT_HINT,
        )
