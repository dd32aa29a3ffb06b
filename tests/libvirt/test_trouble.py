# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with one machine is that machine's: the others go on."""

import msgspec
import pytest
from boot_sector import halting as halting_sector
from deploying import changed, deploy, session, take_away, virsh, with_image

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.commands.listing import listed
from pyguixvm.commands.status import applied_statuses
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import ConsoleReady
from pyguixvm.plan.planner import plan
from pyguixvm.xml.metadata import NAMESPACE, PREFIX, metadata_xml

NOWHERE = Store(lambda: pytest.fail("Guix is not needed"), ignore)


@pytest.fixture
def two(connection, a_machine, pool, tmp_path):
    """Declare two machines that say a word and halt; they go at the end."""
    image = tmp_path / "image.raw"
    image.write_bytes(halting_sector())
    machines = [
        with_image(a_machine(ready=(ConsoleReady("up"),), pool=pool.name), image) for _ in "12"
    ]
    yield machines
    take_away(*(machine.name for machine in machines))


@pytest.mark.parametrize("phase", ["define", "start", "ready"])
@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd"), LookupError("odd")])
def test_a_defect_at_one_machine_does_not_stop_the_others(connection, two, phase, error):
    first, second = two

    def emit(event):
        if getattr(event, "machine", None) == first.name and getattr(event, "phase", "") == phase:
            raise error

    workshop = Workshop(connection, emit, {"PYGUIXVM_VIRT_TYPE": "qemu"}, NOWHERE)
    broken, whole = apply(plan(two, observe(connection)), workshop)
    assert broken.outcome == "failed"
    assert "this is a defect of pyguixvm" in broken.error.message
    assert "odd" in broken.error.message
    assert broken.status == 1
    assert (whole.machine, whole.outcome) == (second.name, "deployed")


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd")])
def test_a_defect_in_planning_one_machine_does_not_stop_the_others(
    connection, two, monkeypatch, error
):
    first, second = two

    def require(machine, *_):
        if machine.name == first.name:
            raise error

    monkeypatch.setattr("pyguixvm.plan.planner.require_possible", require)
    refused, whole = plan(two, observe(connection)).machines
    assert "this is a defect of pyguixvm" in refused.refusal
    assert not refused.actions
    assert whole.actions
    assert whole.machine == second


DAMAGED = {
    "no JSON": ("1", "{"),
    "nothing": ("1", ""),
    "another schema": ("7", "{}"),
    "a schema without end": ("9" * 5000, "{}"),
    "no schema": ("x", "{}"),
    "a list": ("1", "[]"),
    "deep": ("1", '{"generations":' + "[" * 100_000),
    "nonsense": ("1", '{"current":"one","generations":{}}'),
    "no such generation": ("1", None),
    "a schema in other digits": ("\u0663", "{}"),
    "megabytes": ("1", "x" * 3_000_000),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_one_domain_remembers_wrongly_does_not_hide_the_others(
    connection, deployed, tmp_path, damage
):
    whole, damaged = deployed(), deployed()
    schema, text = DAMAGED[damage]
    if text is None:
        lost = msgspec.structs.replace(domains.read_metadata(connection, damaged.name), current=5)
        xml = metadata_xml(lost)
    else:
        xml = f"<machine schema='{schema}'>{text}</machine>"
    connection.handle.lookupByName(damaged.name).setMetadata(2, xml, PREFIX, NAMESPACE, 2)
    here = session(tmp_path)
    with pytest.raises(RequestRefusedError, match=damaged.name):
        domains.read_metadata(connection, damaged.name)
    found = {line.name: line for line in listed(here, everything=True)}
    assert found[whole.name].generation == 1
    assert found[damaged.name].generation is None
    assert {whole.name} <= {status.name for status in applied_statuses(here, [])}
    refused, fine = plan([damaged, whole], observe(connection)).machines
    assert refused.refusal
    assert not refused.actions
    assert fine.refusal is None


def test_metadata_of_others_that_are_too_deep_are_that_machines_trouble(
    connection, halting, tmp_path
):
    """They are two elements deeper in the definition than where libvirt takes them."""
    name, deepest = halting.name, 255
    theirs = "<a>" + "<b>" * deepest + "</b>" * deepest + "</a>"
    connection.handle.lookupByName(name).setMetadata(2, theirs, "theirs", "urn:theirs", 2)
    (found,) = applied_statuses(observe(connection), [name])
    assert (found.status, found.differences) == ("deployed", ())
    assert name in {each.name for each in listed(session(tmp_path), everything=True)}
    # Libvirt takes no such definition; somebody has to take them away.
    error = deploy(connection, changed(halting, title="other"))
    assert "Excessive depth" in error.message
    assert domains.state(connection, name) == "running"
    virsh(f"metadata --config {name} urn:theirs --remove")
    assert deploy(connection, changed(halting, title="other")) is None
