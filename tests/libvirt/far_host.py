# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a hypervisor behind ssh, with the programs that it has."""

from pathlib import Path

import pytest
from sshd import sshd

from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.hypervisor.sending import Sending

# Whoever was cut died at once: it is this very process that goes on.
SOON = Tempo(beat=0.2, look=0.1, patience=1)
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
def impatient(monkeypatch):
    """Have who was cut wait for nobody."""
    monkeypatch.setattr("pyguixvm.hypervisor.incomplete_volume.Tempo", lambda: SOON)


@pytest.fixture
def host_without_shell(tmp_path):
    """Have an ssh server as where a key is for libvirt alone (sshd's AUTHORIZED_KEYS)."""
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)

    def running(instead):
        """Have it run the shell's INSTEAD, whatever else it is asked for."""
        forced = tmp_path / "forced"
        forced.write_text(
            "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in\n"
            f'*virt-ssh-helper*) exec sh -c "$SSH_ORIGINAL_COMMAND";;\n*) {instead};;\nesac\n'
        )
        forced.chmod(0o755)
        return sshd(tmp_path, 2273, ForceCommand=str(forced))

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
