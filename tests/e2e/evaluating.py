# SPDX-License-Identifier: GPL-3.0-or-later
"""An evaluator that a test runs, what to ask it, and what guix itself computes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GUIX_DIRECTORY = ROOT / "guix"
SCRIPT = ROOT / "pyguixvm/guix/evaluator-main.scm"
# Without grafts, computing a derivation builds nothing.
ENVIRONMENT = {**os.environ, "GUIX_BUILD_OPTIONS": "--no-grafts"}
# With memory for all that Guix loads, Guile does not look for garbage in what ends soon.
ROOMY = {"GC_INITIAL_HEAP_SIZE": "512M"}

SYSTEM = """\
(use-modules (gnu))
(use-service-modules networking ssh)
(operating-system
  (host-name "{name}")
  (timezone "Etc/UTC")
  (bootloader (bootloader-configuration
                (bootloader {bootloader})
                (targets '("{target}"))))
  (kernel-arguments '({arguments}))
  (file-systems (cons (file-system
                        (mount-point "/")
                        (device (file-system-label "Guix_image"))
                        (type "ext4"))
                      {file_systems}))
  (services {services}))
"""


def system(
    name: str = "plain",
    *,
    bootloader: str = "grub-bootloader",
    target: str = "/dev/vda",
    arguments: str = '"console=ttyS0"',
    services: str = "(cons (service dhcpcd-service-type) %base-services)",
    file_systems: str = "%base-file-systems",
) -> str:
    return SYSTEM.format(
        name=name,
        bootloader=bootloader,
        target=target,
        arguments=arguments,
        services=services,
        file_systems=file_systems,
    )


def expected(config: Path, image_type: str, variables: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["guix", "system", "image", f"--image-type={image_type}", "-d", str(config)],
        check=True, capture_output=True, text=True,
        env={**ENVIRONMENT, **ROOMY, **(variables or {})},
    )  # fmt: skip
    return done.stdout.strip()


def request(config: Path, **changes: object) -> dict[str, object]:
    return {
        "schema": 1,
        "command": "evaluate",
        "config": str(config),
        "want": "images",
        "machines": None,
        "directory": str(config.parent),
        "environment": ENVIRONMENT,
        "stderr": None,
        "time-limit": 300,
        **changes,
    }


def only_image(answer: dict[str, Any]) -> dict[str, str]:
    assert "deployment" in answer, answer
    (declared,) = answer["deployment"]["machines"]
    image: dict[str, str] = declared["image"]
    return image


def evaluate_once(message: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["guix", "repl", "--", str(SCRIPT), str(GUIX_DIRECTORY), "--once"],
        input=json.dumps(message) + "\n",
        check=True, capture_output=True, text=True, env={**message["environment"], **ROOMY},
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Evaluator:
    """A running evaluator that listens at PATH."""

    def __init__(self, path: Path, *options: str, **variables: str) -> None:
        self.path = path
        self.process = subprocess.Popen(
            ["guix", "repl", "--", str(SCRIPT), str(GUIX_DIRECTORY), str(path),
             "--log", f"{path}.log", *options],
            stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, **variables},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        return connection

    def ask(self, message: dict[str, object]) -> dict[str, Any]:
        with self.connect() as connection:
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile(encoding="utf-8") as file:
                answer: dict[str, Any] = json.loads(file.readline())
                return answer

    def stop(self) -> None:
        self.ask({"command": "stop"})
        self.process.wait(60)
