# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a hypervisor behind ssh, with the programs that it has."""

from pathlib import Path

import pytest
from sshd import sshd

from pyguixvm.hypervisor.sending import Sending

TOOLS = (
    *("sh", "bash", "cat", "dd", "head", "id", "sha256sum", "sleep", "stat"),
    *("virt-ssh-helper", "which"),  # of libvirt's
)


@pytest.fixture
def host(tmp_path):
    """Have an ssh server, whose sessions have the variables that it is given."""
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)

    def running(**variables):
        options = (
            {"SetEnv": " ".join(f"{k}={v}" for k, v in variables.items())} if variables else {}
        )
        return sshd(tmp_path, 2273, **options)

    return running


@pytest.fixture
def sent(monkeypatch):
    """How many bytes of data were sent, each time that it was begun."""
    count = []
    real = Sending.send

    def send(self, *arguments):
        result = real(self, *arguments)
        count.append(result[0])
        return result

    monkeypatch.setattr(Sending, "send", send)
    return count


@pytest.fixture
def tools(tmp_path):
    """Return a directory with what the host has, and OTHERS."""

    def of(*others):
        directory = tmp_path / "bin"
        directory.mkdir(exist_ok=True)
        for name in (*TOOLS, *others):
            found = next(p for d in ("/usr/bin", "/bin", "/usr/sbin")
                         if (p := Path(d, name)).exists())  # fmt: skip
            directory.joinpath(name).symlink_to(found)
        return directory

    return of
