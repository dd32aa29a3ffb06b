# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the lock of a machine, in a process of its own.

usage: lock_once.py hold MACHINE BEAT LOOK PATIENCE FILE
       lock_once.py count MACHINE TIMES FILE

"hold" says "held", and adds each line that it reads to FILE, unless its lock was lost.
"count" adds one to the number in FILE so many TIMES, in two threads, with a lock each time.
"""

import sys
import threading
from pathlib import Path

from pyguixvm.errors import PyguixvmError
from pyguixvm.events import ignore
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.machine_lock.wait import Tempo


def hold(machine, beat, look, patience, file):
    tempo = Tempo(beat=float(beat), look=float(look), patience=float(patience))
    with (
        connect("qemu:///system") as connection,
        held(connection, [machine], ignore, "deploy", tempo) as lock,
    ):
        print("held", flush=True)
        for line in sys.stdin:
            lock.require(machine)
            with Path(file).open("a") as written:
                written.write(line)
            print("written", flush=True)


def count(machine, times, file):
    def some():
        with connect("qemu:///system") as connection:
            for _ in range(int(times)):
                with held(connection, [machine], ignore, "deploy", Tempo(look=0.01)):
                    Path(file).write_text(str(int(Path(file).read_text()) + 1))

    threads = [threading.Thread(target=some) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


try:
    {"hold": hold, "count": count}[sys.argv[1]](*sys.argv[2:])
except PyguixvmError as error:
    sys.exit(f"{type(error).__name__}: {error.message}")
