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
from pyguixvm.reconcile.interference import require_own_disks
from pyguixvm.reconcile.plan import Policy
from pyguixvm.reconcile.shared_store import require_shareable
from pyguixvm.reconcile.storage import storage_refusal, volume_refusal

UNPROTECT_HINT = "Give --unprotect as well, or declare (protect? #f) first."


def require_possible(machine: VirtualMachine, observation: Observation, policy: Policy) -> None:
    """Raise unless the strategy of POLICY suits MACHINE on the hypervisor of OBSERVATION."""
    if policy.strategy == "shared-store":
        require_shareable(machine, observation)


def require_ours(machine: VirtualMachine, domain: ObservedDomain) -> Metadata:
    """Return the metadata of DOMAIN, which is there for MACHINE; raise if it is another's."""
    if domain.unreadable is not None:
        raise RequestRefusedError(domain.unreadable)
    if domain.metadata is None:
        raise RequestRefusedError(
            f"a domain named '{machine.name}' exists that pyguixvm did not make",
            hint="Nothing was done to it. Declare another name, or remove that domain yourself.",
        )
    return domain.metadata


def require_data_kept(
    machine: VirtualMachine, domain: ObservedDomain | None, observation: Observation
) -> None:
    """Raise if data of MACHINE would be lost, or hidden, if its DOMAIN became what is declared."""
    if domain is not None:
        require_own_disks(domain)
    forbidden = volume_refusal(machine, domain, observation)
    if forbidden is None and domain is not None:
        forbidden = storage_refusal(machine, domain)
    if forbidden is not None:
        refusal, hint = forbidden
        raise RequestRefusedError(refusal, hint=hint)


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
