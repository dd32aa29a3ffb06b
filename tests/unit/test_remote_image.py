# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by HTTP are what their digests say, and what was cut goes on where it was."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from declarations import machine
from serving import Server, served
from test_planner import hypervisor, plan

from pyguixvm.digest.file_state import FileState
from pyguixvm.events import ignore
from pyguixvm.image import remote
from pyguixvm.image.remote import FetchError, fetch, format_of
from pyguixvm.model.image import LocalImage, RemoteImage
from pyguixvm.plan.actions import CreateRoot, FetchImage
from pyguixvm.plan.drift import differences

CONTENT = random.Random(19).randbytes(5 * 1024**2 + 333)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_AGAIN", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with served(CONTENT) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images" / "image"


def got(server: Server, path: Path, content: bytes = CONTENT) -> None:
    fetch(server.url, digest(content), path, ignore)
    assert path.read_bytes() == content
    assert not path.with_name("image.part").exists()


def test_it_is_fetched_once(server: Server, path: Path) -> None:
    got(server, path)
    got(server, path)
    assert server.asked == [0]


def test_one_that_is_there_is_left_as_it_is(server: Server, path: Path) -> None:
    """Another machine may be made of it at that moment."""
    fetch(server.url, digest(CONTENT), path, ignore)
    before = FileState.of(path)
    fetch(server.url, digest(CONTENT), path, ignore)
    before.require_unchanged()


def test_no_other_user_reads_it(server: Server, path: Path) -> None:
    before = os.umask(0o022)
    try:
        got(server, path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("part", [False, True], ids=["whole", "begun"])
def test_nor_what_was_fetched_when_others_could(server: Server, path: Path, part: bool) -> None:
    path.parent.mkdir()
    there = path.with_name("image.part") if part else path
    there.write_bytes(CONTENT[:4096] if part else CONTENT)
    there.chmod(0o644)
    got(server, path)
    assert path.stat().st_mode & 0o077 == 0


def test_what_was_cut_goes_on_where_it_was(server: Server, path: Path) -> None:
    server.cuts = [1_000_000, 2_000_000]
    got(server, path)
    assert server.asked == [0, 1_000_000, 3_000_000]


def test_another_run_goes_on(server: Server, path: Path) -> None:
    server.cuts = [3_000_000, *[0] * remote._TRIES]
    with pytest.raises(FetchError, match=r"cannot fetch .*: the connection was cut"):
        fetch(server.url, digest(CONTENT), path, ignore)
    assert not path.exists()
    server.cuts = []
    got(server, path)
    assert server.asked[-1] == 3_000_000


def test_a_server_without_ranges_begins_anew(server: Server, path: Path) -> None:
    server.ranges = False
    server.cuts = [1_000_000]
    got(server, path)


def test_what_is_another_image_by_now_is_fetched_anew(server: Server, path: Path) -> None:
    server.cuts = [1_000_000, *[0] * remote._TRIES]
    with pytest.raises(FetchError):
        fetch(server.url, digest(CONTENT), path, ignore)
    server.cuts = []
    server.content = bytes(reversed(CONTENT)) + b"more"
    got(server, path, server.content)


@pytest.mark.parametrize("length", [100, len(CONTENT) + 100])
def test_what_is_shorter_by_now_is_fetched_anew(server: Server, path: Path, length: int) -> None:
    path.parent.mkdir()
    path.with_name("image.part").write_bytes(bytes(length))
    got(server, path)


def test_what_has_another_digest_is_not_used(server: Server, path: Path) -> None:
    with pytest.raises(FetchError, match=f"has the SHA-256 {digest(CONTENT)}, not {'0' * 64}"):
        fetch(server.url, "0" * 64, path, ignore)
    assert [each.name for each in path.parent.iterdir()] == ["image.lock"]
    got(server, path)


@pytest.mark.parametrize("status", [202, 204])
def test_an_answer_without_a_file_is_not_taken_for_an_empty_one(
    server: Server, path: Path, status: int
) -> None:
    server.status = status
    with pytest.raises(FetchError, match=f"leads to no file: its server answers {status}"):
        fetch(server.url, digest(CONTENT), path, ignore)


def test_what_is_spoilt_here_is_fetched_again(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1] + b"?")
    got(server, path)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "many"},
        {"Content-Length": "-1"},
        {"Content-Length": "9" * 5000},
        {"Content-Length": ""},
        {"Content-Length": str(1 << 60)},
        {"Content-Range": f"bytes {'9' * 5000}-1/2"},
        {"Content-Range": "bytes 0-0/0"},
    ],
)
def test_a_server_that_talks_nonsense_is_told_of_at_most(
    server: Server, path: Path, headers: dict[str, str]
) -> None:
    server.cuts = [1_000_000]
    server.headers = headers
    # Where nothing tells how long it is, what was cut seems to be all.
    with suppress(FetchError):
        got(server, path)
    server.headers = {}
    got(server, path)


def test_what_has_no_end_takes_half_of_what_is_free(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=8 * 1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    server.headers, server.endless = {"Content-Length": ""}, bytes(100_000)
    with pytest.raises(FetchError, match="does not end within 4M"):
        fetch(server.url, digest(CONTENT), path, ignore)
    assert path.with_name("image.part").stat().st_size == 0


def test_what_is_lacking_is_told_apart_from_what_is_free(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(CONTENT)
    usage = shutil.disk_usage("/")._replace(free=size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match=rf" needs {size} more, and {size - 1} are free$"):
        fetch(server.url, digest(CONTENT), path, ignore)


def test_one_that_says_a_byte_now_and_then_is_not_waited_for(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10**9))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(remote, "_READ", 10)
    server.endless = b"x"
    server.headers = {"Content-Length": str(1 << 30)}
    with pytest.raises(FetchError, match="bytes came in 60 s"):
        fetch(server.url, digest(CONTENT), path, ignore)
    assert len(server.asked) == remote._TRIES


def test_it_leads_to_no_other_kind_of_server(server: Server, path: Path) -> None:
    for elsewhere in ("ftp://127.0.0.1:9/image", "file:///etc/passwd", "data:,x"):
        server.elsewhere = elsewhere
        with pytest.raises(FetchError):
            fetch(server.url, digest(b"x"), path, ignore)


@pytest.mark.parametrize(
    "elsewhere", ["http://[::1/image", "http://one..two/image", f"http://{'a' * 70}.\xfc/image"]
)
def test_where_it_leads_to_may_be_no_address(server: Server, path: Path, elsewhere: str) -> None:
    server.elsewhere = elsewhere
    with pytest.raises(FetchError, match=f"cannot fetch {server.url}: "):
        fetch(server.url, digest(CONTENT), path, ignore)
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (503, remote._TRIES)])
def test_what_a_server_refuses(server: Server, path: Path, status: int, times: int) -> None:
    server.status = status
    with pytest.raises(FetchError) as failed:
        fetch(server.url, digest(CONTENT), path, ignore)
    assert failed.value.message.startswith(f"cannot fetch {server.url}: ")
    assert failed.value.hint
    assert len(server.asked) == times


def test_a_proxy_of_the_environment_is_asked(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    fetch("http://images.invalid/image", digest(CONTENT), path, ignore)
    assert server.asked == [0]


def test_two_at_once_fetch_it_once(server: Server, path: Path) -> None:
    both = [threading.Thread(target=got, args=(server, path)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert server.sent == len(CONTENT)


def test_its_format_is_told_by_its_begin(tmp_path: Path) -> None:
    for content, expected in ((b"QFI\xfb...", "qcow2"), (b"\0" * 600, "raw"), (b"", "raw")):
        (tmp_path / "image").write_bytes(content)
        assert format_of(tmp_path / "image") == expected


IMAGE = RemoteImage(url="https://a/image", sha256="1" * 64, format="qcow2", path="/here/1")


def test_it_is_fetched_before_a_root_is_made_of_it() -> None:
    (made,) = plan([machine(image=IMAGE)], hypervisor()).machines
    fetching, root, *_ = made.actions
    assert fetching == FetchImage("https://a/image", "1" * 64, "/here/1", "qcow2")
    assert isinstance(root, CreateRoot)
    assert root.image == "/here/1"


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"url": "https://b/other", "path": "/there/1"}, []),
        ({"sha256": "2" * 64}, ["image.sha256"]),
    ],
)
def test_its_digest_says_what_it_is(changes: dict[str, str], paths: list[str]) -> None:
    from declarations import deployed
    from test_planner import observed

    domain = observed(metadata=deployed(machine(image=IMAGE)))
    declared = machine(image=msgspec.structs.replace(IMAGE, **changes))
    assert [each.path for each in differences(declared, domain)] == paths
    local = LocalImage(path="/x", format="qcow2", size=1, modified=1)
    assert [e.path for e in differences(machine(image=local), domain)] == ["image"]
