# SPDX-License-Identifier: GPL-3.0-or-later
"""Other users of the host gain nothing: by files, or by a connection that only looks."""

import subprocess
from pathlib import Path

from deploying import changed, deploy, virsh

from pyguixvm.events import ignore
from pyguixvm.hypervisor.machine_lock.lock import held

_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")


def as_nobody(*argv):
    """Run ARGV as a user without any right; return the status, and what it said."""
    done = subprocess.run(
        [*_NOBODY, *map(str, argv)], capture_output=True, text=True, check=False, cwd="/"
    )
    return done.returncode, done.stdout + done.stderr


def test_nobody_reads_or_changes_volumes(halting, pool):
    """Those of a private image, which is on a base volume, among them."""
    volumes = list(Path(pool.path).iterdir())
    # The image, the root that stands on it, and the data.
    assert len(volumes) >= 3
    for volume in volumes:
        for command in (["cat", volume], ["sh", "-c", f"echo > {volume}"], ["rm", volume]):
            status, said = as_nobody(*command)
            assert status != 0, said
            assert "ermission denied" in said or "not permitted" in said
    assert as_nobody("ls", pool.path)[0] != 0


def test_who_only_looks_learns_no_password_and_takes_no_lock(connection, halting, tmp_path):
    def readable(*command):
        done = subprocess.run(
            ["virsh", "-q", "-r", *command], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    name = halting.name
    xml = virsh(f"dumpxml --inactive --security-info {name}")
    edited = tmp_path / "edited.xml"
    display = "<graphics type='vnc' autoport='yes' passwd='mellon'/></devices>"
    edited.write_text(xml.replace("</devices>", display))
    virsh(f"define {edited}")
    assert deploy(connection, changed(halting, title="other")) is None
    assert "mellon" in virsh(f"dumpxml --inactive --security-info {name}")
    assert "mellon" not in readable("dumpxml", "--inactive", name)[1]
    assert readable("dumpxml", "--inactive", "--security-info", name)[0] != 0
    with held(connection, [name], ignore, "deploy"):
        secrets = [line.split()[0] for line in virsh("secret-list").splitlines() if line.strip()]
        assert secrets
        for each in secrets:
            assert readable("secret-get-value", each)[0] != 0
            assert readable("secret-undefine", each)[0] != 0
    assert "forbidden" in readable("destroy", name)[1]
