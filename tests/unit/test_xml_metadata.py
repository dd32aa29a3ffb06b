# SPDX-License-Identifier: GPL-3.0-or-later
"""Our element in a domain's metadata."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import LibvirtDomain, Location, VirtualMachine
from pyguixvm.model.image import LocalImage
from pyguixvm.xml.metadata import (
    NAMESPACE,
    StrayMetadataError,
    UnreadableMetadataError,
    metadata_element,
    metadata_xml,
    read_metadata,
)
from pyguixvm.xml.text import parse

BARE = "<domain type='qemu'><name>web</name></domain>"
FOREIGN = "<app:note xmlns:app='urn:other'>keep <b>me</b></app:note>"


def metadata(label="first", number=1):
    machine = VirtualMachine(
        name="web",
        location=Location(file="c.scm", line=1, column=0),
        image=LocalImage(path="/x.qcow2", format="qcow2", size=1, modified=2),
        domain=LibvirtDomain(
            cpu=1,
            maximum_cpu=1,
            memory=1,
            maximum_memory=1,
            storage=1,
            networking=(),
            kernel_arguments=(label,),
            autostart=False,
            pool="default",
            firmware="bios",
            virtualization="auto",
        ),
        ready=(),
        ready_timeout=1,
    )
    generation = Generation(
        number=number,
        date="2026-01-31T12:00:00Z",
        label=label,
        pool="default",
        volume="v",
        image="/x.qcow2",
        declaration=machine,
    )
    return Metadata(current=number, generations=(generation,))


def domain_with(element):
    return f"<domain><name>web</name><metadata>{element}</metadata></domain>"


def ours(schema, text):
    return f"<p:machine xmlns:p='{NAMESPACE}' schema='{schema}'>{text}</p:machine>"


# Everything that a string of the evaluator's JSON can hold.
@given(label=st.text(alphabet=st.characters(codec="utf-8")))
def test_reads_back_what_it_wrote_whatever_the_words(label):
    written = etree.tostring(metadata_element(metadata(label)), encoding="unicode")
    assert read_metadata(parse(domain_with(written))) == metadata(label)


def test_finds_its_element_among_those_of_other_tools():
    written = etree.tostring(metadata_element(metadata()), encoding="unicode")
    assert read_metadata(parse(domain_with(FOREIGN + written))) == metadata()


def test_what_libvirt_is_given_carries_no_namespace_of_its_own():
    element = parse(metadata_xml(metadata()))
    assert (element.tag, element.nsmap) == ("machine", {})


@pytest.mark.parametrize("xml", [BARE, domain_with(""), domain_with(FOREIGN)])
def test_a_domain_without_our_element_is_not_ours(xml):
    assert read_metadata(parse(xml)) is None


@pytest.mark.parametrize("schema", ["4", "17"])
def test_metadata_of_a_newer_version_is_refused_by_saying_so(schema):
    with pytest.raises(UnreadableMetadataError, match="deployed by a newer pyguixvm") as refusal:
        read_metadata(parse(domain_with(ours(schema, "whatever that may be"))))
    assert "'web'" in refusal.value.message
    assert f"schema {schema}" in refusal.value.message


@pytest.mark.parametrize(
    "element",
    [
        ours("1", ""),
        ours("1", "{}"),
        ours("1", "<child/>"),
        ours("", msgspec.json.encode(metadata()).decode()),
        ours("0", msgspec.json.encode(metadata()).decode()),
        ours("one", msgspec.json.encode(metadata()).decode()),
    ],
)
def test_damaged_metadata_is_an_error_that_leaves_the_domain_alone(element):
    with pytest.raises(UnreadableMetadataError, match="damaged metadata"):
        read_metadata(parse(domain_with(element)))


OWN = "0c5dbf1c-1a84-4b8a-8a6e-0b6c2f1f2c11"
OTHER = "7d1f9c3e-95f3-4b60-bd0d-3f5b1f0f9e22"


@pytest.mark.parametrize(
    ("remembered", "name", "exists", "said", "renamed_from"),
    [
        (OWN, "web", False, None, None),
        (None, "web", False, None, None),
        (OTHER, "web", False, "'web' is a copy of machine 'web'", None),
        (OTHER, "web2", True, "'web2' is a copy of machine 'web'", None),
        (OWN, "web2", True, "'web2' was renamed from 'web'$", "web"),
        (None, "web2", True, "'web2' is a copy of machine 'web', which exists, too", None),
        (None, "web2", False, "'web2' was renamed from 'web', or is a copy of that", "web"),
    ],
)
def test_metadata_belongs_to_the_domain_of_its_uuid(remembered, name, exists, said, renamed_from):
    ours = msgspec.structs.replace(metadata(), uuid=remembered)
    written = etree.tostring(metadata_element(ours), encoding="unicode")
    domain = parse(
        f"<domain><name>{name}</name><uuid>{OWN}</uuid><metadata>{written}</metadata></domain>"
    )
    there = {"web"} if exists else set()
    if said is None:
        assert read_metadata(domain, there.__contains__) == ours
        return
    with pytest.raises(StrayMetadataError, match=said) as refusal:
        read_metadata(domain, there.__contains__)
    assert refusal.value.renamed_from == renamed_from
    assert "left alone" in refusal.value.hint
