# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor over ssh: the image travels, once, as a base volume.

The ssh server is the test's own, on loopback in the bed's network, with keys that
are made for it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guest import eventually
from running import CONFIGS, Ran, command, pyguixvm, virsh

CONFIG = CONFIGS / "agent.scm"
PORT = 2222
ADDRESS = f"root@127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Run an ssh server; yield the URI of its hypervisor for a client that knows HOST's key."""
    directory = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user", "stranger"):
        made = command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name)
        assert made.status == 0, made.err
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    options = {
        "ListenAddress": f"127.0.0.1:{PORT}",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "user.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "PermitRootLogin": "prohibit-password",
    }
    config = directory / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))

    def uri(host: str) -> str:
        """Return the URI for a client that takes the server for HOST."""
        algorithm, key, *_ = (directory / f"{host}.pub").read_text().split()
        known = directory / f"known_{host}"
        known.write_text(f"[127.0.0.1]:{PORT} {algorithm} {key}\n")
        client = directory / f"ssh_{host}"
        client.write_text(
            "#!/bin/sh\n"
            f"exec ssh -F none -i {directory}/user -o IdentitiesOnly=yes -o BatchMode=yes "
            f'-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes "$@"\n'
        )
        client.chmod(0o755)
        return f"qemu+ssh://{ADDRESS}/system?command={client}"

    server = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
        stderr=(directory / "log").open("wb"),
        env=os.environ | {"PATH": "/usr/bin:/bin"},
    )
    try:
        eventually(lambda: "Server listening" in (directory / "log").read_text())
        yield uri
    finally:
        server.terminate()
        server.wait(timeout=10)


def volumes() -> set[str]:
    return {line.split()[0] for line in virsh("vol-list", "default").splitlines() if line.strip()}


@pytest.fixture(scope="module")
def uri(ssh: Callable[[str], str]) -> str:
    return ssh("host")


@pytest.fixture(scope="module")
def deployed(uri: str) -> Iterator[Ran]:
    pyguixvm("-c", uri, "undefine", "--yes", "agent")
    yield pyguixvm("-c", uri, "deploy", CONFIG)
    pyguixvm("-c", uri, "undefine", "--yes", "agent")


def test_it_is_ready(deployed: Ran) -> None:
    assert deployed.status == 0, deployed.err
    assert deployed.out.startswith("agent deployed: ")


def base_volume() -> Path:
    """Return the volume under the machine's root, which is named by what it holds."""
    (found,) = re.findall(
        r"<source file='([^']*/pyguixvm-[0-9a-f]{64}\.img)'",
        virsh("dumpxml", "--inactive", "agent"),
    )
    return Path(found)


def test_the_image_was_copied_and_nothing_refers_to_the_store(deployed: Ran) -> None:
    assert {base_volume().name, "pyguixvm-agent.g1.qcow2"} <= volumes()
    assert not any(name.endswith(".partial") for name in volumes())
    assert "<source file='/gnu/store" not in virsh("dumpxml", "--inactive", "agent")


def test_the_copy_is_the_image(deployed: Ran, uri: str) -> None:
    told = pyguixvm("generations", "-c", uri, "agent", "--json").json
    (generation,) = told["generations"]
    image, base = Path(generation["image"]), base_volume()
    with image.open("rb") as ours, base.open("rb") as theirs:
        while block := ours.read(2**20):
            assert theirs.read(2**20) == block
    # Sparse as the image is, but for what alignment costs.
    assert base.stat().st_blocks <= image.stat().st_blocks * 1.1 + 2048


def test_deploying_again_sends_nothing(deployed: Ran, uri: str) -> None:
    again = pyguixvm("-c", uri, "deploy", CONFIG)
    assert (again.status, again.out) == (0, "agent unchanged, nothing to do\n"), again.err


def test_a_host_with_another_key_is_refused(ssh: Callable[[str], str]) -> None:
    refused = pyguixvm("-c", ssh("stranger"), "list")
    assert refused.status == 5
    assert ADDRESS in refused.err
    assert "Host key verification failed" in refused.err


def test_a_host_that_does_not_listen_is_named() -> None:
    refused = pyguixvm("-c", "qemu+ssh://root@127.0.0.1:9/system", "list")
    assert refused.status == 5
    assert "root@127.0.0.1:9" in refused.err
    assert "Connection refused" in refused.err
