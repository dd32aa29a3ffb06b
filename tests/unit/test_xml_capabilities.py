# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host offers, and which domain type follows from it."""

import pytest

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.declaration import LibvirtDomain, Location, VirtualMachine
from pyguixvm.model.image import LocalImage
from pyguixvm.xml.capabilities import HostCapabilities, choose_domain_type, read_capabilities

CAPABILITIES = """
<capabilities>
  <host><cpu><arch>x86_64</arch></cpu>
    <secmodel><model>none</model><doi>0</doi></secmodel>
    <secmodel><model>dac</model><doi>0</doi>
      <baselabel type='kvm'>+64055:+108</baselabel><baselabel type='qemu'>+64055:+108</baselabel>
    </secmodel>
  </host>
  <guest><os_type>hvm</os_type><arch name='i686'><domain type='hvf'/></arch></guest>
  <guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch>
  </guest>
</capabilities>
"""


def asking_for(virtualization):
    return VirtualMachine(
        name="web",
        location=Location(file="c.scm", line=1, column=0),
        image=LocalImage(path="/x", format="raw", size=1, modified=1),
        domain=LibvirtDomain(
            cpu=1,
            maximum_cpu=1,
            memory=1,
            maximum_memory=1,
            storage=1,
            networking=(),
            kernel_arguments=(),
            autostart=False,
            pool="default",
            firmware="bios",
            virtualization=virtualization,
        ),
        ready=(),
        ready_timeout=1,
    )


def test_reads_the_types_for_the_hosts_own_architecture_and_the_active_security_models():
    assert read_capabilities(CAPABILITIES) == HostCapabilities(
        architecture="x86_64",
        domain_types=frozenset({"qemu", "kvm"}),
        security_models=("dac",),
        qemu_user=64055,
    )


def test_guests_of_a_hypervisor_that_gives_no_files_away_run_as_its_user():
    host = "<host><cpu><arch>x86_64</arch></cpu></host>"
    assert read_capabilities(f"<capabilities>{host}</capabilities>").qemu_user is None


@pytest.mark.parametrize(
    ("declared", "offered", "override", "chosen"),
    [
        ("auto", {"kvm", "qemu"}, None, "kvm"),
        ("auto", {"qemu"}, None, "qemu"),
        ("auto", {"kvm"}, None, "kvm"),
        ("auto", {"kvm", "qemu"}, "qemu", "qemu"),
        ("auto", {"kvm", "qemu"}, "", "kvm"),
        ("kvm", {"kvm", "qemu"}, None, "kvm"),
        ("kvm", {"kvm", "qemu"}, "qemu", "qemu"),
        ("kvm", {"qemu"}, "auto", "qemu"),
        ("qemu", {"kvm", "qemu"}, None, "qemu"),
        ("qemu", {"kvm", "qemu"}, "kvm", "kvm"),
    ],
)
def test_chooses_kvm_where_it_is_offered_unless_told_otherwise(declared, offered, override, chosen):
    assert choose_domain_type(asking_for(declared), frozenset(offered), override) == chosen


@pytest.mark.parametrize(
    ("declared", "offered", "override", "sentence", "location"),
    [
        ("kvm", {"qemu"}, None, "machine 'web' asks for virtualization 'kvm', but .* qemu", True),
        ("qemu", {"kvm"}, None, "machine 'web' asks for virtualization 'qemu', but .* kvm", True),
        ("auto", {"xen"}, None, "neither with kvm nor with qemu: .* xen", True),
        ("auto", set(), None, "offers nothing", True),
        ("auto", {"qemu"}, "kvm", "PYGUIXVM_VIRT_TYPE asks for virtualization 'kvm'", False),
        ("auto", {"qemu"}, "tcg", "'tcg'; allowed are auto, kvm and qemu", False),
    ],
)
def test_refuses_what_is_not_offered_and_says_where_it_was_asked_for(
    declared, offered, override, sentence, location
):
    with pytest.raises(RequestRefusedError, match=sentence) as refusal:
        choose_domain_type(asking_for(declared), frozenset(offered), override)
    assert refusal.value.location == ("c.scm:1:0" if location else None)
