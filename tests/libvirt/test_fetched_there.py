# SPDX-License-Identifier: GPL-3.0-or-later
"""An image by HTTP is fetched by the hypervisor's own host, and sent where that cannot be."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyguixvm.digest.memory import Digests
from pyguixvm.events import Notice, PhaseProgress, ignore
from pyguixvm.hypervisor import host_shell, volumes
from pyguixvm.hypervisor.base_volume import BaseVolumes, image_content
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.fetching import Origin
from pyguixvm.hypervisor.upload import uploader

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from serving import served

MIB = 1024**2
CONTENT = random.Random(20).randbytes(9 * MIB) + bytes(12 * MIB) + random.Random(21).randbytes(MIB)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def server():
    with served(CONTENT) as running:
        yield running


@pytest.fixture
def image(tmp_path):
    file = tmp_path / "image"
    file.write_bytes(CONTENT)
    return file


def provided(uri, pool, image, url, tmp_path, emit=ignore, digest=DIGEST):
    digests = Digests(tmp_path / "state")
    content = image_content(image, digests, ignore)
    with connect(uri) as connection:
        place = uploader(connection, emit, origin=Origin(url, digest))
        made = BaseVolumes(connection, pool.name, digests, emit, place=place).provide(
            image, content
        )
        assert volumes.is_whole(connection, pool.name, made.name)
    file = Path(made.path)
    assert file.read_bytes() == CONTENT
    return file


def warnings(told):
    return [each.message for each in told if isinstance(each, Notice) and each.warning]


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_nothing_is_sent(host, pool, image, server, sent, tools, tmp_path, program):
    told = []
    with host(PATH=tools(program)) as there:
        uri = there.uri(command=there.client())
        made = provided(uri, pool, image, server.url, tmp_path, told.append)
        again = provided(uri, pool, image, server.url, tmp_path)
    assert again == made
    assert (server.asked, sent, warnings(told)) == ([0], [], [])
    # As what is sent is: holes are holes, and only whom guests run as may read it.
    assert made.stat().st_blocks * 512 <= 11 * MIB
    assert made.stat().st_mode & 0o777 == 0o400


def test_progress_is_told(host, pool, image, server, tmp_path):
    told = []
    server.pause = 5 * MIB

    def tell(event):
        told.append(event)
        if isinstance(event, PhaseProgress) and event.done > 0:
            server.go_on.set()

    with host() as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path, tell)
    assert any(isinstance(e, PhaseProgress) and 0 < e.done <= e.total for e in told)


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_what_was_cut_goes_on_where_it_was(
    host, pool, image, server, sent, tools, tmp_path, program
):
    server.cuts = [3 * MIB, 4 * MIB]
    with host(PATH=tools(program)) as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path)
    assert sent == []
    first, second, third = server.asked
    assert first == 0
    assert 2 * MIB < second <= 3 * MIB
    assert 6 * MIB < third <= 7 * MIB


def test_where_the_server_knows_no_ranges_the_rest_is_sent(
    host, pool, image, server, sent, tmp_path
):
    server.ranges = False
    server.cuts = [3 * MIB]
    told = []
    with host() as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path, told.append)
    assert server.asked[0] == 0
    assert [7 * MIB < each <= 7.5 * MIB + 64 * 1024 for each in sent] == [True]
    assert "the hypervisor did not fetch" in warnings(told)[0]


@pytest.mark.parametrize("status", [404, 500, 204])
def test_what_it_is_refused_is_sent(host, pool, image, server, sent, tmp_path, status):
    server.status = status
    told = []
    with host() as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path, told.append)
    assert len(sent) == 1
    assert f"did not fetch {server.url} itself" in warnings(told)[0]
    assert str(status) in warnings(told)[0] or status == 204


@pytest.mark.parametrize(
    "spoil",
    [
        {"content": bytes(reversed(CONTENT))},
        {"content": CONTENT[:-1]},
        {"headers": {"Content-Length": ""}, "endless": b"x" * 100_000},
        {"headers": {"Content-Length": str(1 << 60)}},
        {"headers": {"Content-Length": "1000"}},
        {"headers": {"Content-Length": "many"}},
    ],
    ids=["another", "shorter", "endless", "larger", "cut", "nonsense"],
)
def test_what_a_server_gives_that_lies_is_not_kept(
    host, pool, image, server, sent, tmp_path, spoil
):
    for name, value in spoil.items():
        setattr(server, name, value)
    told = []
    with host() as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path, told.append)
    assert len(warnings(told)) + len(sent) in {0, 2}


def test_another_image_is_named_by_its_digest(host, pool, image, server, tmp_path):
    server.content = b"x" * len(CONTENT)
    told = []
    with host() as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path, told.append)
    found = hashlib.sha256(server.content).hexdigest()
    assert f"has the SHA-256 {found}, not {DIGEST}" in warnings(told)[0]


def test_it_is_led_elsewhere(host, pool, image, server, sent, tmp_path):
    with served(CONTENT) as other, host() as there:
        server.elsewhere = other.url
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path)
        assert other.asked == [0]
    assert sent == []


def test_it_is_not_led_to_a_file(host, pool, image, server, sent, tmp_path):
    server.elsewhere = f"file://{image}"
    with host() as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path)
    assert len(sent) == 1


def test_without_a_program_for_it_it_is_sent(host, pool, image, server, sent, tools, tmp_path):
    told = []
    with host(PATH=tools()) as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path, told.append)
    assert len(sent) == 1
    assert "there is neither curl nor wget" in warnings(told)[0]


@pytest.mark.parametrize("instead", ["sleep 1000", "echo hello", "exit 1"])
def test_where_ssh_leads_to_no_shell_it_is_sent(
    host_without_shell, pool, image, server, sent, tmp_path, monkeypatch, instead
):
    monkeypatch.setattr(host_shell, "PATIENCE", 2.0)
    told = []
    with host_without_shell(instead) as there:
        provided(there.uri(command=there.client()), pool, image, server.url, tmp_path, told.append)
    assert len(sent) == 1
    assert len(warnings(told)) == 1
    assert server.asked == []


@pytest.mark.parametrize("program", ["curl", "wget"])
@pytest.mark.parametrize(
    "path",
    ["/image?a='b'&c=$(touch%20{mark});`id`", "/-o{mark}", '/"\\x"[1-3]{{a,b}} #', "/%41?\n"],
)
def test_hostile_words_are_no_commands(
    host, pool, image, server, sent, tools, tmp_path, program, path
):
    mark = tmp_path / "mark"
    url = server.url.removesuffix("/image") + path.format(mark=mark)
    with host(PATH=tools(program)) as there:
        provided(there.uri(command=there.client()), pool, image, url, tmp_path)
    assert (server.asked, sent) == ([0], [])
    assert not mark.exists()


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_the_proxy_of_the_host_is_asked(host, pool, image, server, sent, tools, tmp_path, program):
    proxy = f"http://127.0.0.1:{server.port}"
    with host(PATH=tools(program), http_proxy=proxy) as there:
        uri = there.uri(command=there.client())
        provided(uri, pool, image, "http://images.invalid/image", tmp_path)
    assert (server.asked, sent) == ([0], [])


def test_what_is_broken_off_ends_there_and_goes_on_in_the_next_run(
    host, pool, image, server, sent, tmp_path
):
    server.pause = 5 * MIB
    with host() as there:
        uri = there.uri(command=there.client())
        code = (
            "import sys; sys.path[:0] = sys.argv[1].split(':')\n"
            "from pathlib import Path; from types import SimpleNamespace\n"
            "from test_fetched_there import provided\n"
            "uri, name, image, url, state = sys.argv[2:]\n"
            "provided(uri, SimpleNamespace(name=name), Path(image), url, Path(state))"
        )
        path = f"{Path(__file__).parent}:{Path(__file__).parents[1] / 'unit'}"
        arguments = [uri, pool.name, image, server.url, tmp_path]
        run = subprocess.Popen([sys.executable, "-c", code, path, *map(str, arguments)])
        assert server.paused.wait(60)
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(60)
        # Whoever fetches it there is gone, too.
        assert server.left.wait(60)
        server.pause = 0
        provided(uri, pool, image, server.url, tmp_path)
    assert sent == []
    assert 4 * MIB < server.asked[-1] <= 5 * MIB
