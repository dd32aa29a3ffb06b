# SPDX-License-Identifier: GPL-3.0-or-later
"""What arrived is compared with what was sent: some of it, or all, where a shell is by a digest."""

import os
import random
import sys
from pathlib import Path

import pytest
from sshd import sshd

from pyguixvm.errors import HypervisorError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import download, volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.sending import Sending
from pyguixvm.hypervisor.upload import upload_volume

MIB = 1024**2
NAME = "pyguixvm-compared.g1.qcow2"
ELSEWHERE = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"


@pytest.fixture
def image(tmp_path):
    file = tmp_path / "image"
    data = random.Random(18)
    with file.open("wb") as writing:
        writing.write(data.randbytes(6 * MIB))
        writing.seek(12 * MIB)
        writing.write(data.randbytes(9 * MIB))
        writing.truncate(30 * MIB)
    return file


@pytest.fixture
def spoilt(monkeypatch, pool):
    """Have what arrives be spoilt by SPOIL, which is given the open file."""
    real = Sending.send

    def spoil(how):
        def send(self, *arguments):
            written = real(self, *arguments)
            with Path(pool.path, NAME).open("r+b") as file:
                how(file)
            return written

        monkeypatch.setattr(Sending, "send", send)

    return spoil


@pytest.fixture(scope="module")
def behind_ssh(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ssh")
    for each in (directory, *directory.parents[:2]):
        each.chmod(0o755)
    with sshd(directory, 2271) as server:
        yield server.uri(command=server.client())


@pytest.fixture
def read_back(monkeypatch):
    """How many bytes are read from volumes."""
    count = []
    real = download._parts

    def parts(*arguments):
        for part in real(*arguments):
            count.append(0 if isinstance(part, int) else len(part))
            yield part

    monkeypatch.setattr(download, "_parts", parts)
    return lambda: sum(count)


def half_lost(file):
    os.posix_fallocate(file.fileno(), 0, 30 * MIB)
    file.seek(14 * MIB)
    file.write(bytes(7 * MIB))


def one_byte(file):
    file.seek(13 * MIB + 777)
    byte = file.read(1)
    file.seek(-1, os.SEEK_CUR)
    file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    ("how", "verify"), [(half_lost, False), (half_lost, True), (one_byte, True)]
)
@pytest.mark.parametrize("ssh", [False, True])
def test_what_did_not_arrive_whole_is_told_and_goes(
    image, pool, spoilt, behind_ssh, how, verify, ssh
):
    spoilt(how)
    with connect(behind_ssh if ssh else ELSEWHERE, verify=verify) as connection:
        with pytest.raises(HypervisorError, match="does not hold what was sent"):
            upload_volume(connection, pool.name, NAME, image, ignore)
        assert volumes.lookup(connection, pool.name, NAME) is None


@pytest.mark.parametrize(
    ("ssh", "verify", "most"),
    [(False, False, 64 * 1024), (False, True, 16 * MIB), (True, False, 64 * 1024), (True, True, 0)],
)
def test_little_travels_back(image, pool, behind_ssh, read_back, ssh, verify, most):
    with connect(behind_ssh if ssh else ELSEWHERE, verify=verify) as connection:
        made = upload_volume(connection, pool.name, NAME, image, ignore)
    assert Path(made.path).read_bytes() == image.read_bytes()
    assert most / 2 <= read_back() <= most


def test_where_no_shell_tells_all_of_it_is_read(image, pool, spoilt, behind_ssh, monkeypatch):
    monkeypatch.setattr("pyguixvm.hypervisor.comparison.shell", lambda *_: ["false"])
    spoilt(one_byte)
    with (
        connect(behind_ssh, verify=True) as connection,
        pytest.raises(HypervisorError, match="does not hold what was sent"),
    ):
        upload_volume(connection, pool.name, NAME, image, ignore)


# Libvirt asks it for its options first; the bed has none.
NETCAT = f"""#!{sys.executable}
import os, socket, sys, threading
if "-U" not in sys.argv:
    sys.exit()
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[-1])
def send():
    while data := os.read(0, 65536):
        there.sendall(data)
    there.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := there.recv(65536):
    os.write(1, data)
"""


def test_where_a_socket_is_named_its_host_may_have_another_file_there(
    image, pool, behind_ssh, read_back, tmp_path
):
    netcat = tmp_path / "nc"
    netcat.write_text(NETCAT)
    netcat.chmod(0o755)
    uri = f"{behind_ssh}&netcat={netcat}&socket=/run/libvirt/libvirt-sock"
    with connect(uri, verify=True) as connection:
        upload_volume(connection, pool.name, NAME, image, ignore)
    assert read_back() >= 8 * MIB
