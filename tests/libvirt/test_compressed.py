# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to a hypervisor elsewhere is compressed on its way, where its host has zstd."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import waiting
from metered import Meter
from waiting import eventually

from pyguixvm.digest.memory import Digests
from pyguixvm.events import Notice, PhaseProgress, ignore
from pyguixvm.hypervisor import by_host, host_shell, volumes
from pyguixvm.hypervisor.base_volume import BaseVolumes, image_content
from pyguixvm.hypervisor.connection import connect

MIB = 1024**2
# So much goes as it is before it is known how quick the line is.
FIRST = 4 * MIB

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(autouse=True)
def worth_it(monkeypatch):
    monkeypatch.setattr(by_host, "_TRIED_SECONDS", 0)
    monkeypatch.setattr(by_host, "_WORTH_SECONDS", 0)


@pytest.fixture
def image(tmp_path):
    """An image in three pieces, with holes between; half of the data compresses well."""
    file = tmp_path / "image"
    source = random.Random(11)
    with file.open("wb") as writing:
        writing.write(source.randbytes(6 * MIB + 777))
        writing.seek(40 * MIB)
        writing.write(b"as text does, again and again\n" * (12 * MIB // 30))
        writing.seek(90 * MIB + 4096)
        writing.write(source.randbytes(6 * MIB))
        writing.truncate(128 * MIB)
    return file


def provided(uri, pool, image, state, emit=ignore):
    digests = Digests(state)
    content = image_content(image, digests, ignore)
    with connect(uri) as connection:
        made = BaseVolumes(connection, pool.name, digests, emit).provide(image, content)
        assert volumes.is_whole(connection, pool.name, made.name)
    file = Path(made.path)
    assert file.read_bytes() == image.read_bytes()
    return file


def notices(told):
    return [each.message for each in told if isinstance(each, Notice)]


def test_less_is_sent_than_there_is(host, pool, image, sent, tmp_path):
    told = []
    meter = Meter(tmp_path / "meter")
    with host() as there:
        uri = there.uri(command=there.client("metered", meter.option))
        made = provided(uri, pool, image, tmp_path / "state", told.append)
    assert 12 * MIB < meter.went() < 13.5 * MIB
    assert (sent, notices(told)) == ([FIRST], [])
    assert any(isinstance(e, PhaseProgress) and 0 < e.done <= e.total for e in told)
    # As what is sent is: holes are holes, and only whom guests run as may read it.
    assert made.stat().st_blocks * 512 <= 25 * MIB
    assert made.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("setting", ["_TRIED_SECONDS", "_WORTH_SECONDS"])
def test_what_a_quick_line_carries_goes_as_it_is(
    host, pool, image, sent, tmp_path, monkeypatch, setting
):
    monkeypatch.setattr(by_host, setting, 1000)
    with host() as there:
        provided(there.uri(command=there.client()), pool, image, tmp_path / "state")
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("has", "says"),
    [((), "there is no zstd"), (("zstd", "false-dd"), "not whole")],
    ids=["no zstd", "another dd"],
)
def test_what_its_host_cannot_take_so_goes_as_it_is(
    host, pool, image, sent, tools, tmp_path, has, says
):
    there_are = tools(*(each for each in has if each == "zstd"))
    if "false-dd" in has:
        (there_are / "dd").unlink()
        (there_are / "dd").write_text("#!/bin/sh\necho not whole >&2\nexit 1\n")
        (there_are / "dd").chmod(0o755)
    told = []
    with host(PATH=there_are) as there:
        uri = there.uri(command=there.client())
        provided(uri, pool, image, tmp_path / "state", told.append)
    assert len(sent) == 2
    (told_once,) = notices(told)
    assert "sent as it is" in told_once
    assert says in told_once


def test_without_zstd_here_it_goes_as_it_is(host, pool, image, sent, tools, tmp_path, monkeypatch):
    monkeypatch.setattr("pyguixvm.process._SYSTEM_DIRECTORIES", ())
    told = []
    with host() as there:
        uri = there.uri(command=there.client())
        monkeypatch.setenv("PATH", str(tools("ssh", "sed")))
        provided(uri, pool, image, tmp_path / "state", told.append)
    assert len(sent) == 2
    assert "'zstd' was not found" in notices(told)[0]


@pytest.mark.parametrize("instead", ["sleep 1000", "echo hello", "exit 1"])
def test_where_ssh_leads_to_no_shell_it_goes_as_it_is(
    host_without_shell, pool, image, sent, tmp_path, monkeypatch, instead
):
    monkeypatch.setattr(host_shell, "PATIENCE", 2.0)
    with host_without_shell(instead) as there:
        provided(there.uri(command=there.client()), pool, image, tmp_path / "state")
    assert len(sent) == 2


def test_what_was_cut_goes_on_where_it_was(host, pool, image, sent, tmp_path):
    told = []
    meter = Meter(tmp_path / "meter")
    with host() as there:
        # Libvirt's line is another one.
        cut = there.client("cut", meter.option).read_text()
        line = there.client()
        line.write_text(
            f'#!/bin/sh\ncase "$*" in *virt-ssh-helper*) ;; *)\n{cut}\nesac\n' + line.read_text()
        )
        meter.cut_after(6 * MIB + MIB // 2)
        provided(there.uri(command=line), pool, image, tmp_path / "state", told.append)
    assert (sent, notices(told)) == ([FIRST], [])
    # What its host had not yet written when it was asked goes again.
    assert 8 * MIB < meter.went() < 13.5 * MIB


@pytest.fixture
def halting_tools(tools):
    """What its host has, with a dd(1) that does not go on after four times; and until when."""
    there_are = tools("zstd")
    halts = there_are / "halts"
    halts.touch()
    dd = (there_are / "dd").readlink()
    (there_are / "dd").unlink()
    (there_are / "dd").write_text(
        f"#!/bin/sh\necho >> {there_are}/times\n"
        f"while [ $(stat -c %s {there_are}/times) -gt 4 ] && [ -e {halts} ]; do sleep 0.1; done\n"
        f'{dd} "$@"; status=$?; echo >> {there_are}/ended; exit $status\n'
    )
    (there_are / "dd").chmod(0o755)
    return there_are, halts


PROVIDE = """
import sys; sys.path[:0] = sys.argv[1:3]
from pathlib import Path; from types import SimpleNamespace
from pyguixvm.hypervisor import by_host; by_host._TRIED_SECONDS = by_host._WORTH_SECONDS = 0
from test_compressed import provided
uri, name, image, state = sys.argv[3:]
tell = lambda event: print(getattr(event, "done", 0), flush=True)
provided(uri, SimpleNamespace(name=name), Path(image), Path(state), tell)
"""


def sending(uri, pool, image, tmp_path):
    """Begin to send IMAGE; return what does so, when its host has said it has four pieces."""
    modules = [Path(__file__).parent, Path(waiting.__file__).parent]
    arguments = [*modules, uri, pool.name, image, tmp_path / "state"]
    said = tmp_path / "said"
    with said.open("w") as saying:
        run = subprocess.Popen([sys.executable, "-c", PROVIDE, *map(str, arguments)], stdout=saying)
    eventually(lambda: max(map(int, said.read_text().split()), default=0) > 18 * MIB)
    return run


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_what_was_broken_off_goes_on_in_the_next_run(
    host, pool, image, halting_tools, tmp_path, by
):
    meter = Meter(tmp_path / "meter")
    there_are, halts = halting_tools
    with host(PATH=there_are) as there:
        uri = there.uri(command=there.client("metered", meter.option))
        run = sending(uri, pool, image, tmp_path)
        os.kill(run.pid, by)
        assert run.wait(60)
        halts.unlink()
        before = meter.went()
        provided(uri, pool, image, tmp_path / "state")
    assert meter.went() - before < 8 * MIB


def test_what_gets_its_name_meanwhile_is_not_written_to(host, pool, image, halting_tools, tmp_path):
    """Who slept for long, and was taken for dead, goes on with what is not there any more."""
    there_are, halts = halting_tools
    with host(PATH=there_are) as there:
        run = sending(there.uri(command=there.client()), pool, image, tmp_path)
        (begun,) = (f for f in Path(pool.path).iterdir() if f.stat().st_size == 128 * MIB)
        run.kill()
        run.wait()
        begun.unlink()
        another = b"another" * 1000
        begun.write_bytes(another)
        os.truncate(begun, 128 * MIB)
        halts.unlink()
        eventually(lambda: (there_are / "ended").stat().st_size >= 5)
    assert begun.read_bytes() == another + bytes(128 * MIB - len(another))
