# SPDX-License-Identifier: GPL-3.0-or-later
"""Another libvirtd, in mount and network namespaces of its own: another host to whoever asks."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import libvirt

TESTBED = Path(__file__).parents[1] / "testbed"
# Its directories stand where libvirt has them; what it tells of its guests goes to files.
_FURNISH = """
set -e
for each in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt \
            run:/run/libvirt; do
    mount --bind "$0/${each%%:*}" "${each#*:}"
done
ip link set lo up
if [ -n "$HOST" ]; then echo "$HOST" > /proc/sys/kernel/hostname; fi
exec libvirtd --pid-file "$0/libvirtd.pid" "$@"
"""


@dataclass(frozen=True)
class Libvirtd:
    """The libvirtd that PROCESS is; its files are in DIRECTORY, and UUID is its host's."""

    directory: Path
    uuid: str
    process: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        """The URI that leads to it."""
        return f"qemu+unix:///system?socket={self.directory}/run/libvirt-sock"

    @property
    def images(self) -> Path:
        """The directory of its pool "default", from outside."""
        return self.directory / "lib" / "images"

    def stop_answering(self) -> None:
        """Have it say nothing more, until it goes on."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def another_libvirtd(
    directory: Path,
    *arguments: str,
    settings: str = "",
    alone: bool = True,
    uuid: str | None = None,
    qemu: str = "",
) -> Iterator[Libvirtd]:
    """Run a libvirtd whose files are in DIRECTORY, with a network and a pool called "default".

    Its guests, which are nobody else's, end with it.  It takes ARGUMENTS, SETTINGS of its
    libvirtd.conf, and those of its qemu.conf that QEMU is.  UUID is its host's.  Not ALONE, it has
    no network, and is in that of the bed.
    """
    uuid = uuid or str(uuid4())
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    for parent in directory.parents:
        # QEMU's user gets to its disks.
        with suppress(PermissionError):
            parent.chmod(parent.stat().st_mode | 0o111)
    for name in ("etc", "log", "run", "lib/boot", "lib/dnsmasq", "lib/images", "lib/network"):
        (directory / name).mkdir(parents=True)
    shutil.copytree("/var/cache/libvirt", directory / "cache")
    (directory / "etc" / "libvirtd.conf").write_text(
        f'host_uuid = "{uuid}"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n{settings}'
    )
    as_in_the_bed = (TESTBED / "qemu.conf").read_text()
    (directory / "etc" / "qemu.conf").write_text(f'{as_in_the_bed}stdio_handler = "file"\n{qemu}')
    process = subprocess.Popen(
        [
            "unshare",
            "--mount",
            *(["--net", "--uts"] if alone else []),
            "sh",
            "-c",
            _FURNISH,
            directory,
            *arguments,
        ],
        stderr=(directory / "stderr").open("wb"),
        # Libvirt moves no guest from a host to one of the same name.
        env=os.environ | {"HOST": f"another-{uuid[:8]}" if alone else ""},
    )
    running = Libvirtd(directory, uuid, process)
    try:
        _furnish(running, alone=alone)
        yield running
    finally:
        running.go_on()
        with suppress(libvirt.libvirtError):
            _empty(running)
        process.terminate()
        process.wait(timeout=30)


def _furnish(running: Libvirtd, *, alone: bool) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            there = libvirt.open(running.uri)
            break
        except libvirt.libvirtError:
            if running.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((running.directory / "stderr").read_text()) from None
            time.sleep(0.05)
    if alone:
        there.networkDefineXML((TESTBED / "network.xml").read_text()).create()
    pool = there.storagePoolDefineXML(
        "<pool type='dir'><name>default</name><target><path>/var/lib/libvirt/images</path>"
        "</target></pool>"
    )
    pool.create()
    there.close()


def _empty(running: Libvirtd) -> None:
    """End what runs on behalf of it."""
    there = libvirt.open(running.uri)
    for domain in there.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        domain.destroy()
    for network in there.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
        network.destroy()
    there.close()
