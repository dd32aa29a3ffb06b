# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes a running guest follows in place, and what is said of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declarations import GIB, domain, machine, system
from test_planner import applied, hardware, hypervisor, observed

from pyguixvm.cli.show import plan_lines
from pyguixvm.errors import BuildError, HalfDoneError
from pyguixvm.events import Event
from pyguixvm.guix.activation import Activation, BootWanted, Host
from pyguixvm.guix.request import Exchange, Forward
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import (
    AddressReady,
    ConsoleReady,
    DataDisk,
    GuestAgentReady,
    VirtualMachine,
)
from pyguixvm.model.image import Derivation, ImageContent, LocalImage, SystemImage
from pyguixvm.model.observation import Observation, ObservedDomain, Snapshot
from pyguixvm.plan.actions import (
    ActivateSystem,
    AwaitReady,
    CreateRoot,
    DefineDomain,
    KeepLayer,
    PrepareSystem,
    SetMemory,
    StackRoot,
    StopDomain,
)
from pyguixvm.plan.plan import MachinePlan, Plan, Policy
from pyguixvm.plan.planner import plan
from pyguixvm.plan.readiness import unheard


def content(item: str, uuid: str = "1111-2222") -> ImageContent:
    derivation = Derivation(derivation=f"/gnu/store/{item}.drv", output=f"/gnu/store/{item}")
    return ImageContent(
        layout="mbr", root_uuid=uuid, system=derivation, boot_configuration=derivation,
        boot_configuration_file="/boot/grub/grub.cfg",
    )  # fmt: skip


def image(item: str, uuid: str = "1111-2222", **changes: Any) -> SystemImage:
    return system(item * 32, content=content(item, uuid), **changes)


ONE = image("a")
# Its image would have another root file system: the one that is there keeps its UUID.
TWO = image("b", "3333-4444")


def in_place(
    there: ObservedDomain | None, *, policy: Policy | None = None, **declared: Any
) -> MachinePlan:
    found: Observation = hypervisor(*([there] if there else []))
    wanted: VirtualMachine = machine(**({"image": TWO} | declared))
    allowed = policy or Policy(strategy="in-place")
    return plan([wanted], found, policy=allowed).machines[0]


def there(**changes: Any) -> ObservedDomain:
    return observed(**({"metadata": applied(image=ONE)} | changes))


def test_the_guest_gets_a_volume_on_top_and_then_the_system() -> None:
    web = in_place(there())
    assert (web.effect, web.strategy, web.fallback) == ("live", "in-place", 1)
    assert web.actions == (
        PrepareSystem(system="/gnu/store/b.drv", root_uuid="1111-2222"),
        StackRoot(generation=2, volume="pyguixvm-web.g2.qcow2", image="/gnu/store/x"),
        ActivateSystem(
            system="/gnu/store/b.drv",
            root_uuid="1111-2222",
            restart=StopDomain(timeout=120, force=False),
        ),
        DefineDomain(generation=2, autostart=True),
        AwaitReady(timeout=120),
    )
    assert {difference.effect for difference in web.differences} == {"live"}


LIVE = Policy(strategy="live")


def test_by_its_agent_the_guest_gets_the_same() -> None:
    web = in_place(there(), policy=LIVE)
    assert (web.effect, web.strategy, web.fallback) == ("live", "live", 1)
    prepare, *rest = web.actions
    assert prepare == PrepareSystem(system="/gnu/store/b.drv", root_uuid="1111-2222", by="agent")
    assert tuple(rest) == in_place(there()).actions[1:]


@pytest.mark.parametrize(
    "changed",
    [
        {"image": msgspec.structs.replace(TWO, kernel="linux@2")},
        {"domain": domain(kernel_arguments=("quiet",))},
    ],
)
@pytest.mark.parametrize("restart", [True, False])
def test_what_only_a_boot_changes_is_changed_live_with_a_restart(
    changed: dict[str, Any], restart: bool
) -> None:
    web = in_place(there(), policy=Policy(strategy="live", restart=restart), **changed)
    assert (web.refusal, web.effect) == (None, "live")
    (activate,) = (action for action in web.actions if isinstance(action, ActivateSystem))
    assert (activate.restart is not None) == restart
    (told,) = (line for line in plan_lines(Plan(uri="", machines=(web,))) if "switch its" in line)
    assert ("restart it, by kexec where it can" in told) == restart


PREFERRED = Policy(prefer_live=True)


def test_where_live_is_preferred_it_is_done_where_it_is_possible() -> None:
    web = in_place(there(), policy=PREFERRED)
    assert web.strategy == "live"
    assert web.actions == in_place(there(), policy=LIVE).actions
    assert in_place(there(), policy=Policy()).strategy == "full"
    # Whoever asks for another way gets that.
    assert in_place(there(), policy=Policy(prefer_live=True, strategy="full")).strategy == "full"


@pytest.mark.parametrize(
    ("found", "changed", "why"),
    [
        ({}, {"domain": domain(storage=20 * GIB)}, "domain.storage changed, too"),
        ({"state": "suspended"}, {}, "it is suspended"),
        ({"state": "shut off"}, {}, None),
    ],
)
def test_where_live_is_preferred_and_impossible_a_new_root_is_made(
    found: dict[str, Any], changed: dict[str, Any], why: str | None
) -> None:
    web = in_place(there(**found), policy=PREFERRED, **changed)
    assert (web.effect, web.strategy, web.refusal) == ("replace", "full", None)
    assert web.reason is not None
    assert ("cannot be changed live" in web.reason) == (why is not None)
    assert (why or "") in web.reason


LAYER = "pyguixvm-web.g2.qcow2"
WINDOW = "2026-01-01T00:00:00+00:00"


def changed_once(*, metadata: Metadata | None = None, **changes: Any) -> ObservedDomain:
    """Return a domain whose guest was changed live, to generation 2 on the volume of the first."""
    before = metadata or applied(image=ONE)
    first = before.generation
    second = msgspec.structs.replace(
        first, number=2, volume=LAYER, under=(first.volume,), pinned_uuid="1111-2222",
        activated="/gnu/store/a-pinned", **changes,
    )  # fmt: skip
    return there(
        metadata=msgspec.structs.replace(before.having(second), current=2),
        defined=hardware(disks=(f"/pool/{LAYER}",)),
        live=hardware(disks=(f"/pool/{LAYER}",)),
    )


def test_changes_of_a_window_share_a_volume_and_are_taken_back_together() -> None:
    web = in_place(changed_once(), policy=Policy(strategy="live", since=WINDOW))
    assert web.fallback == 1
    prepare, keep, activate, define, wait = web.actions
    assert isinstance(prepare, PrepareSystem)
    assert keep == KeepLayer(generation=2)
    assert isinstance(activate, ActivateSystem)
    assert define == DefineDomain(generation=2, autostart=True)
    assert isinstance(wait, AwaitReady)


def test_a_change_that_was_broken_off_in_a_window_is_done_on_the_same_volume() -> None:
    found = changed_once(changing=True)
    web = in_place(found, policy=Policy(strategy="live", since=WINDOW))
    assert (web.fallback, web.actions[1]) == (1, KeepLayer(generation=2))


@pytest.mark.parametrize(
    ("found", "policy"),
    [
        (changed_once(), Policy(strategy="live")),
        (changed_once(), Policy(strategy="live", since="2026-01-01T00:00:01+00:00")),
        (changed_once(), Policy(strategy="in-place", since=WINDOW)),
        (changed_once(failed=True), Policy(strategy="live", since=WINDOW)),
        # It was rolled back to: what is below its volume is no generation.
        (
            changed_once(
                metadata=applied(image=ONE).having(
                    msgspec.structs.replace(applied(image=ONE).generation, failed=True)
                )
            ),
            Policy(strategy="live", since=WINDOW),
        ),
    ],
)
def test_another_change_gets_a_volume_of_its_own(found: ObservedDomain, policy: Policy) -> None:
    web = in_place(found, policy=policy)
    assert web.actions[1] == StackRoot(
        generation=3, volume="pyguixvm-web.g3.qcow2", image="/gnu/store/x"
    )
    assert web.fallback == 2


def test_only_a_guest_whose_root_is_replaced_is_cut_off() -> None:
    def stops(**changed: Any) -> list[bool]:
        web = in_place(there(), policy=Policy(fast_stop=True), **changed)
        return [each.fast for each in web.actions if isinstance(each, StopDomain)]

    assert stops() == [True]
    assert stops(image=ONE, domain=domain(maximum_cpu=4)) == [False]


def test_a_fresh_root_is_made_where_it_is_asked_for() -> None:
    found = changed_once()
    for strategy in ("full", "increment"):
        web = in_place(found, image=ONE, policy=Policy(strategy=strategy))
        assert [each.path for each in web.differences] == ["root"]
        assert web.effect == "replace"
    assert in_place(found, image=ONE, policy=Policy()).actions == ()
    assert in_place(there(), image=ONE, policy=Policy(strategy="full")).actions == ()


def test_what_a_guest_has_is_known_as_far_as_it_was_given_that() -> None:
    made = applied(image=ONE).generation
    assert made.system == "/gnu/store/a"
    stacked = msgspec.structs.replace(made, pinned_uuid="1111-2222")
    assert stacked.system is None
    given = msgspec.structs.replace(stacked, activated="/gnu/store/b-pinned")
    assert given.system == "/gnu/store/b-pinned"


def test_what_was_changed_in_place_keeps_the_uuid_that_is_on_its_disk() -> None:
    before = applied(image=TWO)
    metadata = before.having(msgspec.structs.replace(before.generation, pinned_uuid="1111-2222"))
    web = in_place(there(metadata=metadata), image=image("c", "5555"))
    assert web.actions[0] == PrepareSystem(system="/gnu/store/c.drv", root_uuid="1111-2222")


def test_it_is_not_restarted_unless_it_may_be() -> None:
    web = in_place(there(), policy=Policy(strategy="in-place", restart=False))
    (activate,) = (action for action in web.actions if isinstance(action, ActivateSystem))
    assert activate.restart is None


def test_what_changes_live_changes_with_it() -> None:
    larger = hardware(maximum_memory=2 * GIB)
    web = in_place(
        there(
            metadata=applied(image=ONE, domain=domain(maximum_memory=2 * GIB)),
            defined=larger,
            live=larger,
        ),
        domain=domain(memory=GIB // 2, maximum_memory=2 * GIB),
    )
    assert web.refusal is None
    assert SetMemory(memory=GIB // 2) in web.actions
    kinds = [type(action) for action in web.actions]
    assert kinds.index(DefineDomain) < kinds.index(SetMemory) < kinds.index(AwaitReady)


def test_a_machine_that_is_not_there_yet_gets_a_whole_root() -> None:
    web = in_place(None)
    assert (web.effect, web.strategy) == ("create", "full")
    assert any(isinstance(action, CreateRoot) for action in web.actions)


def test_nothing_is_done_where_nothing_differs() -> None:
    assert in_place(there(), image=ONE).actions == ()


DISK = DataDisk(name="db", size=GIB, file_system="ext4", target="/db")


def deep(metadata: Metadata) -> Metadata:
    volumes = tuple(f"pyguixvm-web.g{number}.qcow2" for number in range(50, 0, -1))
    return metadata.having(
        msgspec.structs.replace(
            metadata.generation, number=1, volume="pyguixvm-web.g51.qcow2", under=volumes
        )
    )


@pytest.mark.parametrize(
    ("found", "way"),
    [
        (there(state="shut off"), "pyguixvm start web"),
        (there(state="paused"), "virsh resume web"),
        (there(state="suspended"), "virsh dompmwakeup web"),
    ],
)
def test_what_has_a_guest_run_that_does_not_is_told(found: ObservedDomain, way: str) -> None:
    made = in_place(found, image=TWO)
    assert made.hint is not None
    assert made.hint.startswith(f"Have it run with '{way}', and deploy again.  ")


@pytest.mark.parametrize(
    ("found", "declared", "words"),
    [
        (there(state="shut off"), {}, "it is shut off"),
        (
            there(
                metadata=deep(applied(image=ONE)),
                snapshots=(Snapshot("backup", (), ()),),
                defined=hardware(disks=("/pool/pyguixvm-web.g51.qcow2",)),
                live=hardware(disks=("/pool/pyguixvm-web.g51.qcow2",)),
            ),
            {},
            "stands on 50 volumes",
        ),
        (there(state="paused"), {}, "it is paused"),
        (there(), {"domain": domain(storage=20 * GIB)}, "domain.storage changed, too"),
        (there(), {"domain": domain(maximum_cpu=4)}, "domain.maximum-cpu changed, too"),
        (there(), {"domain": domain(disks=(DISK,))}, "domain.disks.db changed, too"),
        (
            there(),
            {"image": image("b", root_file_system="btrfs")},
            "image.root-file-system changed, too",
        ),
        (
            there(),
            {"image": LocalImage(path="/x", format="raw", size=1, modified=1)},
            "not made of an operating-system",
        ),
        # Deployed by a version that did not know what is in an image.
        (there(metadata=applied(image=system())), {}, "not made of an operating-system"),
        (there(live=hardware(disks=("/pool/other",))), {}, "root changed, too"),
    ],
)
def test_refusals(found: ObservedDomain, declared: dict[str, Any], words: str) -> None:
    web = in_place(found, **declared)
    assert web.actions == ()
    assert web.refusal is not None
    assert words in web.refusal
    assert "--strategy auto" in (web.hint or "")


def test_a_change_that_ended_between_definition_and_switch_is_taken_up() -> None:
    """The guest writes to what is below still, and the volume on top is empty."""
    before = applied(image=ONE)
    stacked = msgspec.structs.replace(
        before.generation,
        number=2,
        volume="pyguixvm-web.g2.qcow2",
        under=("pyguixvm-web.g1.qcow2",),
    )
    metadata = msgspec.structs.replace(before.having(stacked), current=2)
    defined = hardware(disks=("/pool/pyguixvm-web.g2.qcow2",))
    web = in_place(there(metadata=metadata, defined=defined, live=hardware()))
    assert web.refusal is None
    assert StackRoot(3, "pyguixvm-web.g3.qcow2", "/gnu/store/x") in web.actions


def broken_off() -> ObservedDomain:
    """Return what a run leaves that ended while its guest was being changed."""
    before = applied(image=ONE)
    changing = msgspec.structs.replace(
        before.generation,
        number=2,
        volume="pyguixvm-web.g2.qcow2",
        under=("pyguixvm-web.g1.qcow2",),
        pinned_uuid="1111-2222",
        changing=True,
    )
    metadata = msgspec.structs.replace(before.having(changing), current=2, fallback=1)
    there_now = hardware(disks=("/pool/pyguixvm-web.g2.qcow2",))
    return there(metadata=metadata, defined=there_now, live=there_now)


@pytest.mark.parametrize("declared", [ONE, TWO])
def test_a_change_that_was_broken_off_is_never_taken_for_either_system(
    declared: SystemImage,
) -> None:
    again = in_place(broken_off(), image=declared)
    assert any(isinstance(action, ActivateSystem) for action in again.actions)
    # Not to what nobody knows.
    assert again.fallback == 1
    assert again.differences[0].path == "activation"
    anew = in_place(broken_off(), image=declared, policy=Policy())
    assert anew.effect == "replace"
    assert any(isinstance(action, CreateRoot) for action in anew.actions)


def test_a_guest_that_was_not_seen_ready_falls_back_to_what_it_is() -> None:
    """That it lets us in proves more than what was seen of an earlier generation."""
    unproven = msgspec.structs.replace(applied(image=ONE), fallback=7)
    assert in_place(there(metadata=unproven)).fallback == 1


def test_a_protected_machine_is_not_changed_unless_told() -> None:
    protected = applied(image=ONE, protect=True)
    refused = in_place(there(metadata=protected), protect=True)
    assert refused.actions == ()
    assert "--unprotect" in (refused.hint or "")
    told = Policy(strategy="in-place", unprotect=True)
    assert in_place(there(metadata=protected), protect=True, policy=told).actions


def test_a_volume_that_is_known_and_marked_still_keeps_its_number() -> None:
    """The pool's volumes are those without marker; what was returned to may carry one."""
    before = applied(image=ONE)
    returned = msgspec.structs.replace(
        before.generation, volume="pyguixvm-web.g3.qcow2", under=("pyguixvm-web.g1.qcow2",)
    )
    now = hardware(disks=("/pool/pyguixvm-web.g3.qcow2",))
    found = there(metadata=before.having(returned), defined=now, live=now)
    for policy in (Policy(), Policy(strategy="in-place")):
        (volume,) = (
            action.volume
            for action in in_place(found, policy=policy).actions
            if isinstance(action, CreateRoot | StackRoot)
        )
        assert volume == "pyguixvm-web.g4.qcow2"


def test_what_a_running_guest_said_on_its_console_is_not_asked_for() -> None:
    deaf = unheard(machine(ready=(ConsoleReady("login:"),)))
    assert deaf.ready == (AddressReady(),)
    assert unheard(machine(ready=(ConsoleReady("login:"), GuestAgentReady()))).ready == (
        GuestAgentReady(),
    )
    assert unheard(machine(ready=())).ready == ()


class Answering(Exchange):
    """Answers every request alike, and remembers the last."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.asked: tuple[str, Any] | None = None

    def ask(self, command: str, request: Any, *, forward: Forward, seconds: float) -> bytes:
        self.asked = (command, request)
        forward(b"sending 1 store item\n")
        assert seconds > 3600
        return json.dumps(self.answer).encode()


HOST = Host("web", "192.0.2.1", "ssh-ed25519 AAAA", "/gnu/store/b.drv", "1111-2222", "3333")


def activation(exchange: Exchange, events: list[Event] | None = None) -> Activation:
    emit = events.append if events is not None else lambda _event: None
    return Activation(lambda: exchange, Path("/config.scm"), "virtiofs", emit)


def test_the_evaluator_is_asked_for_the_machine_at_its_address() -> None:
    answer = {"activated": True, "restart": True, "kernel-loaded": True}
    exchange, events = Answering(**answer), list[Event]()
    assert activation(exchange, events).activate(HOST) == BootWanted(kernel_loaded=True)
    assert exchange.asked == (
        "activate",
        {
            "config": "/config.scm",
            "sharing": "virtiofs",
            "machine": "web",
            "address": "192.0.2.1",
            "host-key": "ssh-ed25519 AAAA",
            "system": "/gnu/store/b.drv",
            "root-uuid": "1111-2222",
            "uuid": "3333",
        },
    )
    assert len(events) == 1
    prepared = Answering(prepared=True)
    activation(prepared).prepare(HOST)
    assert prepared.asked is not None
    assert prepared.asked[0] == "prepare-activation"


def test_only_what_had_begun_is_half_done() -> None:
    error = {"kind": "half-done", "message": "no", "hint": None, "location": None}
    with pytest.raises(HalfDoneError):
        activation(Answering(error=error)).activate(HOST)
    with pytest.raises(BuildError) as raised:
        activation(Answering(error=error | {"kind": "guix"})).activate(HOST)
    assert not isinstance(raised.value, HalfDoneError)


def test_the_hint_of_guix_is_passed_on() -> None:
    error = {"kind": "guix", "message": "Anmeldung", "hint": "ssh root@", "location": None}
    with pytest.raises(BuildError) as raised:
        activation(Answering(error=error)).prepare(HOST)
    assert raised.value.hint == "ssh root@"


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("no signing key '/etc/guix/signing-key.pub'", "guix archive --generate-key"),
        ("the system would not trust the signing key", '(local-file "/etc/guix/signing-key.pub")'),
        ("no code for module (ssh session)", "guile-ssh"),
        ("what answers at '192.0.2.1' is not the guest of that machine", "pyguixvm console web"),
    ],
)
def test_what_to_do_about_an_error_of_ours(message: str, hint: str) -> None:
    error = {"kind": "guix", "message": message, "hint": None, "location": None}
    with pytest.raises(BuildError) as raised:
        activation(Answering(error=error)).prepare(HOST)
    assert hint in (raised.value.hint or "")
    # What Guix said before is beside the point.
    assert raised.value.tail == ()
