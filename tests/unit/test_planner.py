# SPDX-License-Identifier: GPL-3.0-or-later
"""From declaration and observation to a plan."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from declarations import GIB, deployed, domain, machine, system
from hypothesis import given
from hypothesis import strategies as st

from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import ConsoleReady, LibvirtDomain, Networking, TcpPortReady
from pyguixvm.model.image import LocalImage
from pyguixvm.model.observation import (
    Hardware,
    Host,
    Observation,
    ObservedDomain,
    ObservedInterface,
)
from pyguixvm.model.plain_fields import PLAIN_FIELDS
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.plan.actions import (
    Action,
    AttachInterface,
    AwaitReady,
    CreateRoot,
    DefineDomain,
    DetachInterface,
    RealizeImage,
    SetMemory,
    SetVcpus,
    StartDomain,
    StopDomain,
    UpdateInterface,
)
from pyguixvm.plan.plan import MachinePlan, Plan, Policy
from pyguixvm.plan.planner import plan

MAC = "52:54:00:ab:cd:ef"


def applied(**changes: Any) -> Metadata:
    return deployed(machine(**changes))


def plain(declared: LibvirtDomain) -> dict[str, str]:
    """Return the plain fields of what is DECLARED, as libvirt says them."""
    texts = {field.name: field.text(declared) for field in PLAIN_FIELDS}
    return {name: text for name, text in texts.items() if text is not None}


def hardware(**changes: Any) -> Hardware:
    """Return what `machine` declares, as libvirt says it."""
    fields: dict[str, Any] = {
        "cpu": 1,
        "maximum_cpu": 1,
        "memory": GIB,
        "maximum_memory": GIB,
        "domain_type": "qemu",
        "interfaces": (ObservedInterface(mac_address=MAC, network="default"),),
        "disks": ("/pool/pyguixvm-web.g1.qcow2",),
        "plain": plain(domain()),
    }
    return Hardware(**(fields | changes))


def observed(**changes: Any) -> ObservedDomain:
    fields: dict[str, Any] = {
        "name": "web",
        "uuid": "0" * 36,
        "state": "running",
        "autostart": True,
        "persistent": True,
        "defined": hardware(),
        "metadata": applied(),
    }
    if changes.get("state", "running") not in ("shut off", "crashed"):
        fields["live"] = hardware()
    return ObservedDomain(**(fields | changes))


def hypervisor(*domains: ObservedDomain, volumes: tuple[str, ...] = ()) -> Observation:
    return Observation(
        uri="test:///default",
        local=True,
        domains={d.name: d for d in domains},
        volumes=volumes,
        pools={"default": volumes},
    )


def planned(*domains: ObservedDomain, volumes: tuple[str, ...] = (), **declared: Any) -> Plan:
    return plan([machine(**declared)], hypervisor(*domains, volumes=volumes))


def test_a_missing_machine_is_built_defined_and_started() -> None:
    (web,) = planned().machines
    assert web.effect == "create"
    assert web.actions == (
        RealizeImage(
            derivation=f"/gnu/store/{'a' * 32}-disk-image.drv",
            output=f"/gnu/store/{'a' * 32}-disk-image",
        ),
        CreateRoot(
            pool="default",
            volume="pyguixvm-web.g1.qcow2",
            image=f"/gnu/store/{'a' * 32}-disk-image",
            size=10 * GIB,
        ),
        DefineDomain(generation=1, autostart=True),
        StartDomain(timeout=120),
    )


def test_a_local_image_is_not_built() -> None:
    image = LocalImage(path="/x.qcow2", format="qcow2", size=1, modified=2)
    (web,) = planned(image=image).machines
    assert [type(action) for action in web.actions] == [CreateRoot, DefineDomain, StartDomain]


def test_what_matches_gives_an_empty_plan() -> None:
    unchanged = planned(observed())
    assert unchanged.empty
    assert unchanged.machines[0].effect == "none"


def test_a_machine_that_does_not_run_is_started() -> None:
    (web,) = planned(observed(state="shut off")).machines
    assert web.actions == (StartDomain(timeout=120),)


def test_a_machine_that_crashed_and_is_kept_is_left_alone() -> None:
    (web,) = planned(observed(state="crashed", reason="since its kernel panicked")).machines
    assert web.actions == ()
    assert web.refusal is not None
    assert "since its kernel panicked and is kept" in web.refusal


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("paused", "it stays paused by somebody: let it go on with 'virsh resume web'"),
        ("suspended", "it stays suspended by somebody: wake it with 'virsh dompmwakeup web'"),
        ("running", None),
    ],
)
def test_a_machine_that_somebody_paused_is_left_alone_and_told(
    state: str, words: str | None
) -> None:
    plan = planned(observed(state=state, reason="by somebody"))
    assert plan.empty
    assert plan.machines[0].hint == words


@pytest.mark.parametrize(
    ("domain_there", "words"),
    [
        (observed(metadata=None), "that pyguixvm did not make"),
        (observed(metadata=None, unreadable="made by a newer pyguixvm"), "newer pyguixvm"),
    ],
)
def test_what_is_refused(domain_there: ObservedDomain, words: str) -> None:
    refused = planned(domain_there)
    assert words in (refused.machines[0].refusal or "")
    assert refused.machines[0].actions == ()
    assert not refused.empty


@pytest.mark.parametrize(
    ("owner", "whose"),
    [
        (observed(name="old", metadata=None), "that pyguixvm did not make"),
        (observed(name="old", state="shut off"), "of another machine"),
        (observed(name="old", metadata=None, unreadable="a newer one made it"), "newer one"),
    ],
)
def test_a_mac_address_in_use_is_refused(owner: ObservedDomain, whose: str) -> None:
    both = tuple(ObservedInterface(mac_address=mac, network=None) for mac in (OTHER, MAC))
    taken = msgspec.structs.replace(owner, defined=hardware(interfaces=both))
    declared = domain(networking=(Networking(network="default", mac_address="52:54:00:AB:CD:EF"),))
    (web,) = planned(taken, domain=declared).machines
    assert web.actions == ()
    assert "MAC address 52:54:00:ab:cd:ef of 'web' is in use by domain 'old'" in (web.refusal or "")
    assert whose in (web.refusal or "")
    assert "another mac-address" in (web.hint or "")


def test_the_mac_address_of_an_existing_machine_is_its_own() -> None:
    assert planned(observed()).empty


@given(st.sets(st.integers(min_value=1, max_value=50)))
def test_a_volume_that_was_kept_is_never_overwritten(numbers: set[int]) -> None:
    kept = tuple(generation_volume("web", number) for number in numbers)
    (web,) = planned(volumes=(*kept, "pyguixvm-other.g99.qcow2")).machines
    roots = [action.volume for action in web.actions if isinstance(action, CreateRoot)]
    assert len(roots) == 1
    assert roots[0] not in kept


def test_machines_do_not_see_each_other() -> None:
    both = plan([machine(), machine("db", domain=domain(networking=()))], hypervisor(observed()))
    assert [m.effect for m in both.machines] == ["none", "create"]


# What a guest that runs can be given while it does.
ROOMY = {"maximum_cpu": 4, "maximum_memory": 4 * GIB}
DEFINE = DefineDomain(generation=1, autostart=True)
STOP = StopDomain(timeout=120, force=False)
START = StartDomain(timeout=120)
OTHER = "52:54:00:00:00:02"


def update(
    declared: dict[str, Any], there: Hardware | None = None, live: Hardware | None = None
) -> MachinePlan:
    """Return the plan for a machine declared so, defined as THERE, running as LIVE."""
    defined = there or hardware(**ROOMY)
    (web,) = planned(
        observed(defined=defined, live=live or defined, metadata=applied(domain=domain(**ROOMY))),
        domain=domain(**(ROOMY | declared)),
    ).machines
    return web


@pytest.mark.parametrize(
    ("declared", "effect", "actions"),
    [
        ({"memory": 2 * GIB}, "live", (DEFINE, SetMemory(memory=2 * GIB))),
        ({"memory": GIB // 2}, "live", (DEFINE, SetMemory(memory=GIB // 2))),
        ({"cpu": 3}, "live", (DEFINE, SetVcpus(cpu=3))),
        ({"maximum_memory": 8 * GIB}, "restart", (STOP, DEFINE, START)),
        ({"maximum_memory": 2 * GIB}, "live", (DEFINE,)),
        ({"cpu": 8, "maximum_cpu": 8}, "restart", (STOP, DEFINE, START)),
        ({"title": "Web"}, "live", (DEFINE,)),
        ({"description": "x"}, "live", (DEFINE,)),
        ({"autostart": False}, "live", (DefineDomain(generation=1, autostart=False),)),
        ({"virtualization": "kvm"}, "restart", (STOP, DEFINE, START)),
        ({"virtualization": "qemu"}, "none", ()),
        (
            {"networking": (*domain().networking, Networking(network="lan", mac_address=OTHER))},
            "live",
            (DEFINE, AttachInterface(mac_address=OTHER)),
        ),
        (
            {"networking": (Networking(network="lan", mac_address=MAC),)},
            "live",
            (DEFINE, UpdateInterface(mac_address=MAC)),
        ),
        ({"networking": ()}, "live", (DetachInterface(mac_address=MAC), DEFINE)),
        (
            {"networking": (Networking(network="default", mac_address="52:54:00:00:00:99"),)},
            "live",
            (
                DetachInterface(mac_address=MAC),
                DEFINE,
                AttachInterface(mac_address="52:54:00:00:00:99"),
            ),
        ),
    ],
)
def test_the_smallest_safe_change(
    declared: dict[str, Any], effect: str, actions: tuple[Action, ...]
) -> None:
    web = update(declared)
    assert (web.effect, web.actions) == (effect, actions)


def test_a_vcpu_is_taken_away_by_a_restart() -> None:
    assert update({"cpu": 2}, hardware(**(ROOMY | {"cpu": 3}))).actions == (STOP, DEFINE, START)


@pytest.mark.parametrize(
    ("by_hand", "actions"),
    [
        ({"memory": GIB // 4}, (SetMemory(memory=GIB),)),
        ({"interfaces": ()}, (AttachInterface(mac_address=MAC),)),
        (
            {"interfaces": (ObservedInterface(mac_address=MAC, network="lan"),)},
            (UpdateInterface(mac_address=MAC),),
        ),
        (
            {"interfaces": (ObservedInterface(mac_address=MAC, network="default", link=False),)},
            (UpdateInterface(mac_address=MAC),),
        ),
        ({"disks": ()}, (STOP, START)),
    ],
)
def test_what_somebody_changed_by_hand_is_put_right(
    by_hand: dict[str, Any], actions: tuple[Action, ...]
) -> None:
    live_only = update({}, hardware(**ROOMY), hardware(**(ROOMY | by_hand)))
    assert [action for action in live_only.actions if action != DEFINE] == list(actions)


def test_what_was_changed_by_hand_for_the_next_start_only_is_defined_again() -> None:
    web = update({}, hardware(**(ROOMY | {"memory": GIB // 4})), hardware(**ROOMY))
    assert (web.effect, web.actions) == ("live", (DEFINE,))


def test_a_device_that_is_not_ours_is_told_and_left() -> None:
    more = hardware(
        interfaces=(
            ObservedInterface(mac_address=MAC, network="default"),
            ObservedInterface(mac_address=OTHER, network=None),
        ),
        disks=("/pool/pyguixvm-web.g1.qcow2", "/srv/theirs.qcow2"),
    )
    (web,) = planned(observed(defined=more, live=more)).machines
    assert web.actions == ()
    assert web.foreign == (f"interface {OTHER}", "disk /srv/theirs.qcow2")


def test_without_restart_it_stays_pending() -> None:
    pending = plan(
        [machine(domain=domain(maximum_memory=2 * GIB))],
        hypervisor(observed()),
        policy=Policy(restart=False),
    )
    (web,) = pending.machines
    assert web.actions == (DEFINE,)
    assert web.pending
    assert not pending.empty


def test_what_is_defined_but_does_not_run_so_yet_is_pending() -> None:
    defined = hardware(maximum_memory=2 * GIB)
    (web,) = planned(observed(defined=defined), domain=domain(maximum_memory=2 * GIB)).machines
    assert [(d.path, d.pending) for d in web.differences] == [("domain.maximum-memory", True)]
    assert web.actions == (STOP, START)


@pytest.mark.parametrize(
    "declared",
    [
        {"image": system("b" * 32)},
        {"domain": domain(storage=20 * GIB)},
        {"domain": domain(kernel_arguments=("quiet",))},
        {"domain": domain(pool="fast")},
        {"domain": domain(firmware="uefi")},
        {"image": LocalImage(path="/x.qcow2", format="qcow2", size=1, modified=2)},
    ],
)
def test_another_system_is_made_while_the_old_one_runs(declared: dict[str, Any]) -> None:
    (web,) = planned(observed(), **declared).machines
    assert (web.effect, web.fallback) == ("replace", 1)
    kinds = [type(action) for action in web.actions if not isinstance(action, RealizeImage)]
    assert kinds == [CreateRoot, StopDomain, DefineDomain, StartDomain]
    assert DefineDomain(generation=2, autostart=True) in web.actions


def test_another_system_needs_a_restart() -> None:
    (web,) = plan(
        [machine(image=system("b" * 32))], hypervisor(observed()), policy=Policy(restart=False)
    ).machines
    assert web.actions == ()
    assert "--no-restart" in (web.hint or "")


def test_force_is_told_of_whatever_command_it_is() -> None:
    (web,) = planned(observed(state="paused"), image=system("b" * 32)).machines
    # A rollback is planned for, too.
    assert str(web.hint).endswith(". With --force, it is powered off, too.")


def test_force_is_handed_on() -> None:
    (web,) = plan(
        [machine(image=system("b" * 32))], hypervisor(observed()), policy=Policy(force=True)
    ).machines
    assert StopDomain(timeout=30, force=True) in web.actions


def test_a_generation_that_was_not_seen_ready_is_waited_for() -> None:
    unproven = Metadata(current=1, generations=applied().generations, fallback=7)
    (web,) = planned(observed(metadata=unproven)).machines
    assert (web.actions, web.fallback) == ((AwaitReady(timeout=120),), 7)
    (web,) = planned(observed(metadata=unproven), ready=(ConsoleReady(pattern="up"),)).machines
    assert web.actions == (STOP, DEFINE, START)
    (web,) = planned(observed(metadata=unproven, state="shut off")).machines
    assert (web.actions, web.fallback) == ((START,), 7)


def test_a_change_is_taken_back_to_what_was_seen_ready() -> None:
    unproven = Metadata(current=1, generations=applied().generations, fallback=7)
    (web,) = planned(observed(metadata=unproven), image=system("b" * 32)).machines
    assert web.fallback == 7


def test_readiness_is_remembered_and_nothing_else_happens() -> None:
    (web,) = planned(observed(), ready=(TcpPortReady(port=22),)).machines
    assert (web.effect, web.actions) == ("live", (DEFINE,))


@given(
    st.fixed_dictionaries(
        {
            "cpu": st.integers(1, 4),
            "memory": st.integers(1, 4).map(lambda n: n * GIB),
            "title": st.none() | st.just("Web"),
            "networking": st.sampled_from([(), domain().networking]),
        }
    )
)
def test_a_machine_as_declared_needs_nothing(fields: dict[str, Any]) -> None:
    declared = domain(**(ROOMY | fields))
    interfaces = tuple(
        ObservedInterface(mac_address=i.mac_address, network=i.network) for i in declared.networking
    )
    same = {key: fields[key] for key in ("cpu", "memory")}
    there = hardware(**(ROOMY | same), interfaces=interfaces, plain=plain(declared))
    metadata = applied(domain=declared)
    assert planned(observed(defined=there, live=there, metadata=metadata), domain=declared).empty


PROTECTED = "is protected"


@pytest.mark.parametrize(
    ("declared", "policy", "refused"),
    [
        ({"image": system("b" * 32)}, Policy(), True),
        ({"image": system("b" * 32)}, Policy(unprotect=True), False),
        ({"domain": domain(title="x")}, Policy(), False),
        ({"domain": domain(maximum_cpu=2)}, Policy(), False),
        ({"domain": domain(maximum_cpu=2)}, Policy(force=True), True),
        ({"domain": domain(maximum_cpu=2)}, Policy(force=True, unprotect=True), False),
    ],
)
def test_a_protected_machine_keeps_its_root(
    declared: dict[str, Any], policy: Policy, refused: bool
) -> None:
    there = observed(metadata=applied(protect=True))
    wanted = machine(protect=True, **declared)
    (web,) = plan([wanted], hypervisor(there), policy=policy).machines
    assert (web.refusal is not None) is refused
    assert bool(web.actions) is not refused


def test_protection_is_remembered_without_touching_the_guest() -> None:
    (web,) = planned(observed(), protect=True).machines
    assert [(d.path, d.effect) for d in web.differences] == [("protect", "live")]
    assert [type(action) for action in web.actions] == [DefineDomain]


@pytest.mark.parametrize(
    ("fields", "given", "there"),
    [
        ({"memory": 9999 * GIB, "maximum_memory": 9999 * GIB}, "(memory 9999G)", "has 16G"),
        ({"maximum_memory": 17 * GIB}, "(maximum-memory 17G)", "has 16G"),
        ({"maximum_memory": 16 * GIB + 1024}, "(maximum-memory 16777217K)", "has 16G"),
        ({"maximum_cpu": 289}, "289 vCPUs", "can have 288"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_more_than_the_host_has_is_refused_before_anything_is_touched(
    fields: dict[str, Any], given: str, there: str, known: bool
) -> None:
    host = Host(memory=16 * GIB, maximum_cpu=288)
    observation = msgspec.structs.replace(
        hypervisor(*((observed(),) if known else ()), volumes=()), host=host
    )
    (web,) = plan([machine(domain=domain(**fields))], observation).machines
    assert web.actions == ()
    assert web.refusal is not None
    assert given in web.refusal
    assert there in web.refusal


def test_that_the_host_has_a_little_less_is_seen() -> None:
    there = msgspec.structs.replace(hypervisor(volumes=()), host=Host(memory=16 * GIB - 1024))
    (web,) = plan([machine(domain=domain(maximum_memory=16 * GIB))], there).machines
    assert web.refusal is not None
    assert web.refusal.endswith(
        "(maximum-memory 16G), and the host of test:///default has 16777215K"
    )


def test_what_runs_with_as_much_as_is_declared_fits() -> None:
    large = hardware(memory=17 * GIB, maximum_memory=17 * GIB)
    domains = hypervisor(observed(defined=large, live=large), volumes=())
    observation = msgspec.structs.replace(domains, host=Host(memory=16 * GIB))
    same = domain(memory=17 * GIB, maximum_memory=17 * GIB)
    (web,) = plan([machine(domain=same)], observation).machines
    assert web.refusal is None


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (Policy(), 120),
        (Policy(force=True), 30),
        (Policy(stop_timeout=300), 300),
        (Policy(force=True, stop_timeout=5), 5),
    ],
)
def test_how_long_a_guest_may_take_to_stop(policy: Policy, seconds: int) -> None:
    larger = domain(memory=2 * GIB, maximum_memory=2 * GIB)
    (web,) = plan(
        [machine(domain=larger)], hypervisor(observed(), volumes=()), policy=policy
    ).machines
    (stop,) = (action for action in web.actions if isinstance(action, StopDomain))
    assert (stop.timeout, stop.force) == (seconds, policy.force)


def test_a_network_that_the_host_lacks_is_refused_where_it_is_needed() -> None:
    host = Host(networks=("lan",), pools=("default",))
    (made,) = plan([machine()], msgspec.structs.replace(hypervisor(), host=host)).machines
    assert made.actions == ()
    assert made.refusal == "network 'default' does not exist on test:///default; there are: lan"


def test_a_pool_that_the_host_lacks_is_told_and_one_of_an_impossible_name_refused() -> None:
    host = Host(networks=("default",), pools=("default",))
    there = msgspec.structs.replace(hypervisor(), host=host)
    pools = ("default", "new", "a/b")
    wanted = [machine(name=f"m{n}", domain=domain(pool=pool)) for n, pool in enumerate(pools)]
    declared, new, impossible = (plan([each], there).machines[0] for each in wanted)
    assert (declared.new_pool, new.new_pool) == (None, "new")
    assert "a directory cannot have that name" in (impossible.refusal or "")
