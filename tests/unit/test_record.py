# SPDX-License-Identifier: GPL-3.0-or-later
"""What domains remember is read for years: records of earlier versions, and of later ones."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declarations import machine, system
from lxml import etree

from pyguixvm.model.applied import Generation, Merging, Metadata
from pyguixvm.model.arrival import Arrival
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.image import RemoteImage
from pyguixvm.model.record import SCHEMA, from_plain, plain
from pyguixvm.xml.metadata import (
    NAMESPACE,
    UnreadableMetadataError,
    metadata_element,
    read_metadata,
)
from pyguixvm.xml.text import parse

# Domains as virsh dumped them, deployed by programs of schema 1.
DEPLOYED = sorted((Path(__file__).parents[1] / "libvirt/deployed/1").glob("*.xml"))
KIB = 1024

SAYS = {
    "data-disks": ("storage", 1, {1}, ["db", "state"]),
    "in-place": ("in-place", 2, {1, 2}, ["state"]),
    "in-place-broken-off": ("in-place", 3, {1, 2, 3}, ["state"]),
    "local-image": ("local", 1, {1}, ["db"]),
    "not-seen-ready": ("storage", 3, {1, 2, 3}, ["db", "state"]),
    "one-generation": ("in-place", 1, {1}, ["state"]),
    "several-generations": ("storage", 2, {1, 2}, ["db", "state"]),
    "shared-store": ("minimal", 1, {1}, []),
}


def element_of(metadata: Metadata) -> etree._Element:
    return parse(etree.tostring(metadata_element(metadata), encoding="unicode"))


def domain_of(element: etree._Element, name: str = "web") -> etree._Element:
    text = etree.tostring(element, encoding="unicode")
    return parse(f"<domain><name>{name}</name><metadata>{text}</metadata></domain>")


def read(path: Path) -> Metadata:
    metadata = read_metadata(parse(path.read_text()))
    assert metadata is not None
    return metadata


def test_there_is_a_record_of_each_kind() -> None:
    assert {path.stem for path in DEPLOYED} == set(SAYS)


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.stem)
def test_a_record_of_before_is_read_to_what_it_says(path: Path) -> None:
    name, current, numbers, disks = SAYS[path.stem]
    found = read(path)
    assert (found.machine, found.current, set(found.numbers)) == (name, current, numbers)
    declared = found.generation.declaration.domain.disks
    assert [disk.name for disk in declared if isinstance(disk, DataDisk)] == disks
    assert found.generation.changing == (path.stem == "in-place-broken-off")
    assert found.fallback == (2 if path.stem == "not-seen-ready" else None)
    assert bool(found.generation.under) == path.stem.startswith("in-place")


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.stem)
def test_a_record_of_before_is_the_same_in_the_schema_of_now(path: Path) -> None:
    found = read(path)
    element = element_of(found)
    assert element.get("schema") == "2"
    name = found.machine
    domain = domain_of(element, name)
    etree.SubElement(domain, "uuid").text = found.uuid
    assert read_metadata(domain) == found


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.stem)
def test_keys_that_nobody_knows_are_passed_over_at_any_depth(path: Path) -> None:
    found = read(path)
    assert from_plain(_with_more(plain(found)), SCHEMA) == found


def _with_more(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _with_more(value) for key, value in data.items()} | {"later": {"a": [1]}}
    return [_with_more(each) for each in data] if isinstance(data, list | tuple) else data


def test_keys_that_were_not_written_yet_have_their_defaults() -> None:
    data = plain(Metadata(current=1, generations=(generation(1),)))
    declaration = data["generations"][0]["declaration"]
    for key in ("protect", "hypervisor"):
        del declaration[key]
    del declaration["domain"]["mount-points"]
    assert from_plain(data, SCHEMA).generation == generation(1)


@pytest.mark.parametrize("data", [[], "web", None, {}, {"current": 1, "generations": {}}])
def test_what_is_no_record_is_a_value_error(data: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_plain(data, SCHEMA)


# --- bounded ------------------------------------------------------------------


def generation(number: int, **changes: Any) -> Generation:
    # As different as two builds are: no two store items have one hash.
    items = [f"{number * 7919 + each:032d}" for each in range(3)]
    made = Generation(
        number=number,
        date=f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00",
        label="GNU",
        pool="default",
        volume=f"pyguixvm-web.g{number}.qcow2",
        image=f"/gnu/store/{items[0]}-disk-image",
        declaration=machine(image=system(items[1])),
    )
    return msgspec.structs.replace(made, **changes)


def test_the_current_generation_can_be_read_by_anybody_and_the_others_are_packed() -> None:
    metadata = Metadata(current=2, generations=tuple(map(generation, (1, 2, 3))))
    element = element_of(metadata)
    said = json.loads(element.text or "")
    assert [each["number"] for each in said["generations"]] == [2]
    assert read_metadata(domain_of(element)) == metadata


def test_a_hundred_saves_fit_into_64_kib() -> None:
    found = read(next(path for path in DEPLOYED if path.stem == "several-generations"))
    for number in range(3, 101):
        text = msgspec.json.encode(found.find(2)).decode()
        # Every save makes other store items: five in each generation.
        for each, item in enumerate(dict.fromkeys(_items(text))):
            text = text.replace(item, _hash(number * 100 + each))
        saved = msgspec.json.decode(text.encode(), type=Generation)
        found = found.having(msgspec.structs.replace(saved, number=number))
    found = msgspec.structs.replace(found, current=100)
    element = element_of(found)
    assert len(etree.tostring(element)) < 64 * KIB
    assert read_metadata(domain_of(element, "storage")) == found


def _items(text: str) -> list[str]:
    return [each[:32] for each in text.split("/gnu/store/")[1:]]


def _hash(seed: int) -> str:
    alphabet = "0123456789abcdfghijklmnpqrsvwxyz"
    digest = zlib.crc32(str(seed).encode())
    letters = []
    for _ in range(32):
        digest = (digest * 6364136223846793005 + 1442695040888963407) % 2**64
        letters.append(alphabet[digest >> 59])
    return "".join(letters)


def test_generations_whose_volumes_are_gone_are_forgotten_but_those_that_are_needed() -> None:
    metadata = Metadata(current=4, fallback=3, generations=tuple(map(generation, range(1, 6))))
    lost = {("default", f"pyguixvm-web.g{number}.qcow2") for number in (1, 3, 4)}
    assert metadata.without(lost).numbers == (2, 3, 4, 5)
    elsewhere = {("backup", volume) for _, volume in lost}
    assert metadata.without(elsewhere) == metadata


@pytest.mark.parametrize(
    "history",
    [
        "?",
        "AAAA",
        base64.b64encode(zlib.compress(b"[]")[:-1]).decode(),
        base64.b64encode(zlib.compress(b"{}")).decode(),
        base64.b64encode(zlib.compress(b"[1]")).decode(),
        base64.b64encode(zlib.compress(b"[" * 100_000)).decode(),
        base64.b64encode(zlib.compress(bytes(65 * KIB * KIB))).decode(),
    ],
    ids=["text", "nothing", "half", "object", "number", "deep", "endless"],
)
def test_a_damaged_history_is_damaged_metadata(history: str) -> None:
    element = element_of(Metadata(current=1, generations=(generation(1),)))
    etree.SubElement(element, "history").text = history
    with pytest.raises(UnreadableMetadataError, match="damaged metadata"):
        read_metadata(domain_of(element))


@pytest.mark.parametrize("text", ["null", "[]", '{"current":1}', "[" * 100_000])
def test_a_damaged_record_with_history_is_damaged_metadata(text: str) -> None:
    element = parse(
        f"<p:machine xmlns:p='{NAMESPACE}' schema='{SCHEMA}'>{text}<history>?</history></p:machine>"
    )
    with pytest.raises(UnreadableMetadataError, match="damaged metadata"):
        read_metadata(domain_of(element))


SOURCE = Hypervisor(None, "a", "QEMU", "/session", "user")
REMOTE = RemoteImage(url="https://a/b", sha256="0" * 64, format="qcow2")


@pytest.mark.parametrize("case", ["arrival", "merging", "image"])
def test_older_programs_keep_away_from_what_they_must_not_pass_over(case: str) -> None:
    first = generation(1)
    fetched = msgspec.structs.replace(first.declaration, image=REMOTE)
    news = {
        "arrival": {"arrival": Arrival(uri="qemu:///system", source=SOURCE, volumes=())},
        "merging": {"merging": Merging(pool="default", volumes=("a", "b"))},
        "image": {"generations": (msgspec.structs.replace(first, declaration=fetched),)},
    }
    plainly = Metadata(current=1, generations=(first,))
    assert element_of(plainly).get("schema") == "2"
    found = msgspec.structs.replace(plainly, **news[case])
    assert element_of(found).get("schema") == "3"
    assert read_metadata(domain_of(element_of(found), found.machine)) == found
