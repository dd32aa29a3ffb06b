# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a guest through its agent what it sees."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import waiting
from running import virsh


@dataclass(frozen=True)
class Guest:
    """The guest of the domain called NAME."""

    name: str

    def agent(self, execute: str, **arguments: object) -> Any:
        """Return what its agent answers, see QEMU's qga/qapi-schema.json."""
        request = json.dumps({"execute": execute, "arguments": arguments})
        return json.loads(virsh("qemu-agent-command", self.name, request))["return"]

    def content(self, file: str, count: int = 4096) -> str:
        """Return the first COUNT bytes of FILE in the guest."""
        handle = self.agent("guest-file-open", path=file)
        data = self.agent("guest-file-read", handle=handle, count=count)["buf-b64"]
        self.agent("guest-file-close", handle=handle)
        return base64.b64decode(data).decode()

    def write(self, file: str, text: str) -> None:
        """Have FILE in the guest hold TEXT; when it is on its disk, the guest decides."""
        handle = self.agent("guest-file-open", path=file, mode="w")
        data = base64.b64encode(text.encode()).decode()
        self.agent("guest-file-write", handle=handle, **{"buf-b64": data})
        self.agent("guest-file-flush", handle=handle)
        self.agent("guest-file-close", handle=handle)

    def sync(self) -> None:
        """Have all that was written be on its disks: that is what freezing them does first."""
        self.agent("guest-fsfreeze-freeze")
        self.agent("guest-fsfreeze-thaw")

    def booted(self) -> str:
        """Return what tells one boot of the guest from another."""
        return self.content("/proc/sys/kernel/random/boot_id")

    def mounts(self) -> dict[str, list[str]]:
        """Return device, type and options of what is mounted, by directory."""
        lines = (line.split() for line in self.content("/proc/mounts").splitlines())
        return {fields[1]: [fields[0], fields[2], fields[3]] for fields in lines}


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until HOLDS is true, SECONDS at most: a guest does what it was told at its own pace."""
    waiting.eventually(holds, seconds, every=0.5)
