# SPDX-License-Identifier: GPL-3.0-or-later
"""Building, rooting and listing, with an exchange of the test's own that writes down requests."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyguixvm.errors import BuildError
from pyguixvm.events import BuildOutput, Event
from pyguixvm.guix.log import Lines, clean
from pyguixvm.guix.request import Exchange, Forward
from pyguixvm.guix.store import Store


class Recorded(Exchange):
    """Answers every request alike, after writing SAID to standard error."""

    def __init__(self, answer: dict[str, Any], said: bytes = b"") -> None:
        self.answer = answer
        self.said = said
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def ask(self, command: str, request: Any, *, forward: Forward, seconds: float) -> bytes:
        assert seconds > 0
        self.requests.append((command, dict(request)))
        # A line that comes in pieces is one line.
        forward(self.said[:5])
        forward(self.said[5:])
        return json.dumps(self.answer).encode()


class Place:
    """A store, a root below one directory, and an exchange."""

    def __init__(
        self, directory: Path, answer: dict[str, Any] | None = None, said: bytes = b""
    ) -> None:
        self.directory = directory
        self.root = directory / "roots/1"
        self.exchange = Recorded(answer or {"realized": True}, said)
        self.events: list[Event] = []
        self.store = Store(lambda: self.exchange, self.events.append)

    def item(self, name: str) -> str:
        return str(self.directory / name)

    def build(self, name: str) -> str:
        (self.directory / name).touch()
        return self.item(name)


def test_what_is_missing_is_built_and_rooted_in_one_request(tmp_path: Path) -> None:
    place = Place(tmp_path, said=b"building a...\n")
    root = place.root
    outputs = {"/a.drv": place.item("a"), "/b.drv": place.build("b")}
    assert place.store.realize(outputs, {root: place.item("a")})
    assert place.exchange.requests == [
        ("realize", {"derivations": ["/a.drv"], "roots": {str(root): place.item("a")}})
    ]
    assert place.events == [BuildOutput(line="building a...")]


def test_what_is_there_and_rooted_takes_no_request(tmp_path: Path) -> None:
    place = Place(tmp_path)
    root = place.root
    root.parent.mkdir(parents=True)
    root.symlink_to(place.build("a"))
    assert not place.store.realize({"/a.drv": place.item("a")}, {root: place.item("a")})
    assert not place.store.realize({"/a.drv": place.item("a")}, {})
    assert place.exchange.requests == []


def test_a_root_that_leads_elsewhere_is_registered_anew(tmp_path: Path) -> None:
    place = Place(tmp_path)
    root = place.root
    root.parent.mkdir(parents=True)
    root.symlink_to("/gnu/store/collected")
    assert place.store.realize({"/a.drv": place.build("a")}, {root: place.item("a")})
    ((_, request),) = place.exchange.requests
    assert request == {"derivations": [], "roots": {str(root): place.item("a")}}


def test_what_somebody_else_is_building_is_waited_for(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.build("a.lock")
    assert place.store.realize({"/a.drv": place.build("a")}, {})
    ((_, request),) = place.exchange.requests
    assert request["derivations"] == ["/a.drv"]


def test_items_are_asked_for_by_the_hashes_of_those_that_are_there(tmp_path: Path) -> None:
    item = {"path": "/gnu/store/c-c", "hash": "sha256:00", "nar-size": 7, "references": []}
    place = Place(tmp_path, {"items": [item]})
    (found,) = place.store.items_beyond(["/gnu/store/a-a-1", "/gnu/store/b-b"], ["/gnu/store/c-c"])
    assert (found.path, found.nar_size) == ("/gnu/store/c-c", 7)
    ((command, request),) = place.exchange.requests
    assert command == "items"
    assert sorted(request["present"].split(" ")) == ["a", "b"]
    assert request["wanted"] == ["/gnu/store/c-c"]


def failing(message: str, log: Path | None = None, kind: str = "guix") -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message}, "log": log and str(log)}


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), ("", bytes)]
)
def test_a_failure_shows_the_end_of_the_log(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    log = tmp_path / f"a.drv{suffix}"
    log.write_bytes(compress(b"".join(b"line %d\n" % number for number in range(50))))
    place = Place(tmp_path, failing("build of `/gnu/store/a.drv' failed", log), b"building\n")
    with pytest.raises(BuildError, match=r"build of `/gnu/store/a\.drv' failed") as caught:
        place.store.realize({"/a.drv": place.item("a")}, {})
    error = caught.value
    assert error.status == 4
    assert error.log == str(log)
    assert error.tail == tuple(f"line {number}" for number in range(30, 50))


def test_without_the_log_the_output_is_shown(tmp_path: Path) -> None:
    place = Place(tmp_path, failing("no", Path("/no/such/log.gz")), b"building\nfailed.")
    with pytest.raises(BuildError) as caught:
        place.store.realize({"/a.drv": place.item("a")}, {})
    assert caught.value.log == "/no/such/log.gz"
    assert caught.value.tail[0] == "building"


def test_a_daemon_that_does_not_run_is_named(tmp_path: Path) -> None:
    words = "Verbindung zu »/var/guix/daemon-socket/socket« fehlgeschlagen"
    place = Place(tmp_path, failing(words, kind="unreachable"))
    with pytest.raises(BuildError, match="Verbindung") as caught:
        place.store.realize({"/a.drv": place.item("a")}, {})
    assert caught.value.hint == "Is guix-daemon running?"


def test_lines_come_whole_and_the_last_one_without_its_end() -> None:
    shown: list[str] = []
    lines = Lines(shown.append)
    for piece in (b"on", b"e\ntwo\n\nth", "ä".encode()[:1], "ä".encode()[1:], b"ree"):
        lines.take(piece)
    assert shown == ["one", "two"]
    lines.finish()
    assert shown == ["one", "two", "thäree"] == list(lines.last)


def test_of_what_has_no_line_breaks_little_is_kept() -> None:
    shown: list[str] = []
    lines = Lines(shown.append)
    for _ in range(1000):
        lines.take(b"x" * 10_000)
    assert sum(map(len, shown)) == 10_000_000 - len(lines._rest)
    assert max(map(len, shown)) == 4096
    assert len(lines.last) == 20
    # Progress is overwritten again and again.
    shown.clear()
    lines.finish()
    for step in range(10_000):
        lines.take(b"\r\x1b[K %d %%" % step)
    lines.take(b"\n")
    assert shown == [" 9999 %"]


def test_a_log_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    log = tmp_path / "build.log.gz"
    log.write_bytes(gzip.compress(b"a line\n" * 40 * 1024**2, 1))
    place = Place(tmp_path, failing("no", log), b"building\nfailed.")
    tracemalloc.start()
    try:
        with pytest.raises(BuildError) as caught:
            place.store.realize({"/a.drv": place.item("a")}, {})
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024**2
    finally:
        tracemalloc.stop()
    assert caught.value.tail == ("building", "failed.")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;32mok\x1b[0m", "ok"),
        ("\r\x1b[K 98% ▕██▏\r\x1b[K100% ▕███▏", "100% ▕███▏"),
        ("ends so\r\n", "ends so"),
        ("\x1b[K", ""),
    ],
)
def test_lines_are_shown_as_a_terminal_would(line: str, shown: str) -> None:
    assert clean(line) == shown
