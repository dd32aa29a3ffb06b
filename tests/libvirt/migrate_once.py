# SPDX-License-Identifier: GPL-3.0-or-later
"""Move one machine, and die by SIGKILL after one of the requests to libvirt that change something.

usage: migrate_once.py MACHINE FROM TO REQUEST STATE [BY]

FROM and TO are URIs; REQUEST is the number of that request, or the name of the first one, 0 for
none; STATE is the directory
for GC roots.  The names of the requests are written at the end.
"""

import os
import signal
import sys

import libvirt

from pyguixvm.commands import migrate
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor.migration import Line

done = []
CHANGING = {
    libvirt.virConnect: ("defineXMLFlags", "secretDefineXML"),
    libvirt.virDomain: ("undefineFlags", "setMetadata", "setAutostart"),
    libvirt.virSecret: ("undefine",),
    libvirt.virStoragePool: ("createXML",),
    libvirt.virStorageVol: ("delete", "upload"),
    libvirt.virStream: ("finish",),
}


def deadly(method, last):
    def call(*arguments, **named):
        result = method(*arguments, **named)
        done.append(method.__name__)
        if last in {str(len(done)), method.__name__}:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def main():
    machine, source, target, last, state, *by = sys.argv[1:]
    for kind, names in CHANGING.items():
        for name in names:
            setattr(kind, name, deadly(getattr(kind, name), last))
    here = Session(source, (), {"XDG_STATE_HOME": state}, ignore, print)
    print("begun", flush=True)
    migrate.migrate(here, (machine,), to=target, line=Line(*by))
    print(*done)
