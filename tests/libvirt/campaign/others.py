# SPDX-License-Identifier: GPL-3.0-or-later
"""What others do to our machines: by virsh, and behind libvirt's back.

In the commands, {d} is a machine's domain, {pool} and {net} what it uses, {dir} the pool's
directory, {root} and {data} its volumes there, {n} a number that was not used before, {likeness}
the name of a volume that could be ours, and {far} another directory.
"""

import re
import shlex
import subprocess
from pathlib import Path

import msgspec

from pyguixvm.xml.metadata import NAMESPACE


class Act(msgspec.Struct, frozen=True):
    """COMMANDS of virsh, one after the other, whatever becomes of them.

    One that is not GENTLE may change what data disks hold, or take them away: it is not done
    while one of us is at work; nor is what reads a definition and defines it later.  EDIT changes
    one; BEHIND is a shell's command.
    """

    name: str
    commands: tuple[str, ...] = ()
    gentle: bool = True
    edit: tuple[str, str] | None = None
    behind: str = ""


def _virsh(*commands, gentle=True):
    return Act(commands[0].partition(" {")[0], commands, gentle)


_REMOVE_LOCKS = (
    "for each in $(virsh -q secret-list | awk '/lock/ {{print $1}}'); "
    "do virsh secret-undefine $each; done"
)
_OTHER_DISK = "{far}/other-{n}.img"

ACTS = (
    _virsh("snapshot-create-as {d} s{n} --disk-only"),
    _virsh("snapshot-create-as {d} s{n} --disk-only --no-metadata"),
    _virsh("snapshot-create-as {d} s{n}"),
    Act("snapshot-delete", ("snapshot-delete {d} --current",), gentle=False),
    Act("snapshot-revert", ("snapshot-revert {d} --current --force",), gentle=False),
    _virsh("checkpoint-create-as {d} c{n}"),
    _virsh("managedsave {d}"),
    _virsh("managedsave-remove {d}"),
    _virsh("undefine {d}"),
    Act(
        "undefine with its snapshots", ("undefine {d} --managed-save --snapshots-metadata --nvram",)
    ),
    _virsh("domrename {d} {d}-old"),
    Act("rename one to another", ("destroy {d}", "domrename {d} {other}")),
    _virsh("suspend {d}"),
    _virsh("resume {d}"),
    _virsh("destroy {d}"),
    _virsh("reset {d}"),
    _virsh("start {d}"),
    _virsh("shutdown {d}"),
    _virsh("save {d} {far}/saved-{n}"),
    _virsh("autostart {d}"),
    _virsh("desc {d} --title other-{n}"),
    Act("desc --live", ("desc {d} --live --config 'of others {n}'",)),
    Act("setmem", ("setmem {d} 24M --live", "setmem {d} 24M --config")),
    Act("setmaxmem", ("setmaxmem {d} 48M --config",)),
    Act("setvcpus", ("setvcpus {d} 1 --config",)),
    Act("attach-disk", (f"attach-disk {{d}} {_OTHER_DISK} vdx --persistent",)),
    Act("attach-disk to what runs", (f"attach-disk {{d}} {_OTHER_DISK} vdw --live",)),
    Act("detach-disk vdb", ("detach-disk {d} vdb --config",)),
    Act("detach-disk vdb of what runs", ("detach-disk {d} vdb --live",)),
    Act("detach-disk vda", ("detach-disk {d} vda --config",)),
    Act("attach-interface", ("attach-interface {d} network {net} --model virtio --config",)),
    Act("attach-interface to what runs", ("attach-interface {d} network {net} --live",)),
    Act("detach-interface", ("detach-interface {d} network --config",)),
    Act("domif-setlink", ("domif-setlink {d} {mac} down",)),
    Act(
        "blockcopy",
        ("blockcopy {d} vdb {dir}/copy-{n}.qcow2 --format qcow2 --transient-job",),
    ),
    Act(
        "blockcopy --pivot",
        ("blockcopy {d} vda {far}/moved-{n}.qcow2 --transient-job --wait --pivot",),
    ),
    Act("blockjob --abort", ("blockjob {d} vda --abort", "blockjob {d} vdb --abort")),
    Act(
        "blockcommit",
        (
            "blockcommit {d} vda --shallow --active --pivot",
            "blockcommit {d} vdb --shallow --active --pivot",
        ),
        gentle=False,
    ),
    Act("blockpull", ("blockpull {d} vda --wait", "blockpull {d} vdb --wait"), gentle=False),
    Act("vol-delete root", ("vol-delete {root} --pool {pool}",), gentle=False),
    Act("vol-delete data", ("vol-delete {data} --pool {pool}",), gentle=False),
    Act("vol-clone data", ("vol-clone {data} copy-of-data-{n} --pool {pool}",)),
    Act("vol-clone root", ("vol-clone {root} {likeness} --pool {pool}",)),
    Act("vol-create-as", ("vol-create-as {pool} {likeness} 1M --format qcow2",)),
    _virsh("pool-refresh {pool}"),
    _virsh("pool-destroy {pool}"),
    _virsh("pool-start {pool}"),
    Act("pool-undefine", ("pool-destroy {pool}", "pool-undefine {pool}"), gentle=False),
    _virsh("net-destroy {net}"),
    _virsh("net-start {net}"),
    Act("net-undefine", ("net-destroy {net}", "net-undefine {net}")),
    Act("metadata --remove", (f"metadata {{d}} {NAMESPACE} --remove --config",)),
    Act("metadata of others", (f"metadata {{d}} {NAMESPACE} --config --set '<machine>{{n}}'",)),
    Act("edit: another title", edit=("</name>", "</name><title>edited</title>"), gentle=False),
    Act(
        "edit: more memory",
        edit=(r"<memory unit='KiB'>\d+", "<memory unit='KiB'>65536"),
        gentle=False,
    ),
    Act(
        "edit: no emulator",
        edit=("<emulator>[^<]*", "<emulator>/gnu/store/gone-qemu"),
        gentle=False,
    ),
    Act(
        "edit: an old machine type",
        edit=("machine='[^']*'", "machine='pc-i440fx-2.9'"),
        gentle=False,
    ),
    Act("edit: UEFI", edit=("<os>", "<os firmware='efi'>"), gentle=False),
    Act(
        "edit: a display",
        edit=("</devices>", "<graphics type='vnc' passwd='x'/></devices>"),
        gentle=False,
    ),
    Act("edit: another network", edit=("network='[^']*'", "network='not-there'"), gentle=False),
    Act("edit: no console", edit=(r"(?s)<(serial|console) .*?</\1>", ""), gentle=False),
    Act(
        "edit: a cache mode",
        edit=("<driver name='qemu'", "<driver name='qemu' cache='none'"),
        gentle=False,
    ),
    Act("rm root", behind="rm -f {dir}/{root}", gentle=False),
    Act("rm data", behind="rm -f {dir}/{data}", gentle=False),
    Act("cp of data", behind="cp {dir}/{data} {dir}/put-in-{n}.qcow2"),
    Act("cp as a generation", behind="cp {dir}/{root} {dir}/{likeness}"),
    Act("chmod 0", behind="chmod 0 {dir}/{root}"),
    Act("chown", behind="chown 1234 {dir}/{data}"),
    Act("lock removed", behind=_REMOVE_LOCKS),
)

RESTART = Act("libvirtd restarts", behind=str(Path(__file__).parents[1] / "restart-libvirtd"))


def do(act, words):
    """Do ACT with WORDS for what stands in braces; what is refused was not done."""
    for command in act.commands:
        _run("virsh", "-q", *shlex.split(command.format(**words)))
    if act.behind:
        _run("sh", "-c", act.behind.format(**words))
    if act.edit is not None:
        _edit(words, *act.edit)


def _edit(words, pattern, replacement):
    xml = _run("virsh", "-q", "dumpxml", "--inactive", "--security-info", words["d"])
    if xml:
        edited = Path(words["far"]) / "edited.xml"
        edited.write_text(re.sub(pattern, replacement, xml))
        _run("virsh", "-q", "define", str(edited))


def _run(*command):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120
    )
    return done.stdout if done.returncode == 0 else ""
