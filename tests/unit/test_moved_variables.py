# SPDX-License-Identifier: GPL-3.0-or-later
"""The last copy of what firmware keeps stays, and so does what is not the machine's."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from variables_host import DIRECTORY, FILE, HELD, Host, connection_to

from pyguixvm.apply import moved_variables
from pyguixvm.apply.moved_volumes import Move
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import firmware_variables
from pyguixvm.model.arrival import SentVariables

NAME = "pyguixvm-web.variables"
SENT = SentVariables(FILE, "default", NAME, hashlib.sha256(HELD).hexdigest())
# What was not there, and what libvirt brought with a guest that ran.
NONE = SentVariables(FILE)
XML = "<domain><name>web</name><os firmware='efi'>{}</os></domain>"
NAMED = XML.format(f"<nvram>{FILE}</nvram>")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def move(host: Host, tmp_path: Any) -> Move:
    here = connection_to(host)
    return Move("web", here, here, ignore, Digests(tmp_path), lambda: None)


@pytest.mark.parametrize("xml", [NAMED, XML.format("")])
def test_what_was_sent_is_compared_with_what_is_there(move: Move, host: Host, xml: str) -> None:
    assert moved_variables.are_as_sent(move, SENT, xml)
    host.files["web_VARS.fd"] = HELD[::-1]
    assert not moved_variables.are_as_sent(move, SENT, xml)


def test_what_was_not_seen_when_it_was_sent_is_not_given_up(move: Move, host: Host) -> None:
    assert not moved_variables.are_as_sent(move, NONE, NAMED)
    host.files.clear()
    assert moved_variables.are_as_sent(move, NONE, NAMED)


def test_what_was_lost_where_it_was_is_neither_given_up_nor_taken_back(
    move: Move, host: Host
) -> None:
    moved_variables.require_there(move, SENT, NAMED)
    host.files.clear()
    for look in (moved_variables.are_as_sent, moved_variables.require_there):
        with pytest.raises(RequestRefusedError, match="is not there any more") as refused:
            look(move, SENT, NAMED)
        assert "undefine --nvram web" in (refused.value.hint or "")
    # It has others by now, or none were sent.
    moved_variables.require_there(move, SENT, XML.format("<nvram>/another.fd</nvram>"))
    moved_variables.require_there(move, NONE, NAMED)


def test_the_file_goes_that_is_left(move: Move, host: Host) -> None:
    for left in (SENT, NONE):
        host.files["web_VARS.fd"] = HELD
        assert moved_variables.delete_left(move, left, lost=False) == []
        assert host.files == {}
    assert moved_variables.delete_left(move, SENT, lost=False) == []


@pytest.mark.parametrize(
    "name", ["shadow", "web_VARS", "db_VARS.fd", "pyguixvm-db.variables", "xweb_VARS.fd"]
)
def test_no_file_is_touched_that_is_called_otherwise(move: Move, host: Host, name: str) -> None:
    host.files[name] = HELD
    (said,) = moved_variables.delete_left(move, SentVariables(f"{DIRECTORY}/{name}"), lost=False)
    assert said.startswith(f"{DIRECTORY}/{name}, if it is on")
    assert name in host.files


def test_a_file_that_another_machine_has_as_well_stays(move: Move, host: Host) -> None:
    host.domains["copy"] = NAMED.replace("web<", "copy<")
    (said,) = moved_variables.delete_left(move, SENT, lost=False)
    assert said.endswith("it is of copy, too")
    # With a definition, it goes when that does.
    host.domains = {"web": NAMED}
    assert moved_variables.delete_left(move, SENT, lost=False) == []
    assert host.files


def test_what_the_other_end_has_lost_or_has_not_stays_and_is_told(move: Move, host: Host) -> None:
    (said,) = moved_variables.delete_left(move, SENT, lost=True)
    assert said.endswith(f"{FILE} stays")
    host.files["web_VARS.fd"] = b"later"
    (said,) = moved_variables.delete_left(move, SENT, lost=False)
    assert "written to since" in said
    assert host.files
    host.files.clear()
    (said,) = moved_variables.delete_left(move, SENT, lost=True)
    assert said.endswith("and is made anew")


@pytest.mark.parametrize(
    ("nvram", "file"),
    [
        ("<nvram>/srv/v.fd</nvram>", "/srv/v.fd"),
        ("<nvram type='file'><source file='/srv/v.fd'/></nvram>", "/srv/v.fd"),
        (
            "<nvram type='file' template='/t.fd'>\n  <source file='/srv/v.fd'/>\n</nvram>",
            "/srv/v.fd",
        ),
        ("<nvram template='/t.fd'/>", FILE),
        ("", FILE),
    ],
)
def test_the_file_is_found_however_it_is_named(host: Host, nvram: str, file: str) -> None:
    assert firmware_variables.file(connection_to(host), "web", XML.format(nvram)) == file
