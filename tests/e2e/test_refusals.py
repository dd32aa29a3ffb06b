# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong is said clearly, where it stands, with the right exit status."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import boot_sector
import pytest
from running import CONFIGS, pyguixvm, virsh

SYSTEM = """
(define os
  (operating-system
    (host-name "small")
    (bootloader (bootloader-configuration
                  (bootloader grub-bootloader)
                  (targets '("/dev/vda")) (timeout 0)))
    (file-systems (cons (file-system
                          (mount-point "/")
                          (device (file-system-label "Guix_image"))
                          (type "ext4"))
                        %base-file-systems))
    (services (cons* EXTRA %base-services))))
"""


# Its image is made for other tests, too.
SMALLER = f"""
(define agent (load "{CONFIGS / "agent.scm"}"))
(virtual-machine
  (inherit agent)
  (name "small")
  (libvirt-domain
    (inherit (virtual-machine-libvirt-domain agent))
    (storage 200M)))
"""

# All that its guest says is "up".
HALTING = """
(virtual-machine
  (name "small")
  (image (local-image "disk.raw"))
  (libvirt-domain (memory 64M) (storage 16M))
  (ready (list (console "never said")))
  (ready-timeout 5))
"""

EXTRA_NETWORK = "(service (@ (gnu services networking) dhcpcd-service-type))"


def config(directory: Path, text: str, extra: str = "") -> Path:
    file = directory / "config.scm"
    file.write_text("(use-modules (gnu))\n" + SYSTEM.replace("EXTRA", extra) + text)
    return file


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("(virtual-machine (operating-system os)", 0, ""),
        ("(virtual-machine (operating-system oss))", 0, "oss"),
        ("(virtual-machine (operating-system os) (colour 1))", 0, "colour"),
        ("(virtual-machine (operating-system os)\n (libvirt-domain (cpu 0)))", 1, "cpu"),
        (
            "(virtual-machine (operating-system os)\n"
            " (libvirt-domain (networking (mac-address 53:54:00:00:00:01))))",
            1,
            "53:54:00:00:00:01",
        ),
        ("(virtual-machine (operating-system os) (disks '()))", 0, "disks"),
        (
            "(virtual-machine (operating-system os)\n (libvirt-domain (storage 3T)))",
            1,
            "3T is more than a partition table of type MBR can describe",
        ),
        ("42", None, "42"),
        (
            '(virtual-machine (operating-system os) (ready (list (console "["))))',
            0,
            "is no regular expression",
        ),
    ],
)
def test_a_wrong_configuration(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    """LINE is counted from where TEXT begins; None where nothing in it is to blame."""
    file = config(tmp_path, text)
    refused = pyguixvm("check", file)
    assert refused.status == 3, refused.err
    begins = file.read_text().removesuffix(text).count("\n") + 1
    assert f"{file}:" + (f"{begins + line}:" if line is not None else "") in refused.err
    assert words in refused.err
    assert "Traceback" not in refused.err


def test_all_errors_are_told_with_their_places(tmp_path: Path) -> None:
    text = """
(list (virtual-machine (operating-system os) (libvirt-domain (cpu 0) (memory 1M)))
      (virtual-machine (operating-system oss) (colour 1)))
"""
    file = config(tmp_path, text)
    refused = pyguixvm("check", file)
    begins = file.read_text().removesuffix(text).count("\n") + 2
    assert refused.status == 3, refused.err
    told = [line for line in refused.err.splitlines() if f"{file}:" in line and "error:" in line]
    lines = [int(line.split(f"{file}:")[1].split(":")[0]) - begins for line in told]
    assert lines == [0, 0, 1, 1], refused.err
    errors = pyguixvm("check", "--json", file).json
    assert [error["message"] for error in errors["errors"]] == [
        line.split("error: ")[1] for line in told
    ]
    assert errors["error"] == errors["errors"][0]


@pytest.mark.parametrize(
    ("files", "place", "words"),
    [
        (
            {
                "config.scm": "(use-modules (gnu) (broken))\n(virtual-machine (name host))",
                "broken.scm": "(define-module (broken)\n  #:export (host))\n(define host (frob 1))",
            },
            "broken.scm:3:14",
            "frob: unbound variable",
        ),
        (
            {
                "config.scm": "(use-modules (gnu) (outer))\n(virtual-machine (name host))",
                "outer.scm": "(define-module (outer)\n  #:use-module (broken)\n)",
                "broken.scm": "(define-module (broken))\n(define x (operating-system (host 1",
            },
            "broken.scm:2:36",
            "missing closing parenthesis",
        ),
        (
            {
                "config.scm": "(use-modules (gnu) (wants))\n(virtual-machine (name host))",
                "wants.scm": "(define-module (wants)\n  #:use-module (not there))",
            },
            "wants.scm:1:0",
            "no code for module (not there)",
        ),
        (
            {"config.scm": '(use-modules (gnu))\n(load "machines.scm")'},
            "config.scm:2:0",
            "machines.scm' to load",
        ),
        (
            {"config.scm": '(load "sub.scm")', "sub.scm": '\n(define x (car "a"))'},
            "sub.scm:2:10",
            "In procedure car",
        ),
        (
            {"config.scm": '(use-modules (gnu))\n(define file (local-file (getenv "NOT_SET")))'},
            "config.scm:2:13",
            "local-file: #f is not a file name",
        ),
        (
            {"config.scm": "(define (twice x)\n  (* 2 x))\n(define four\n  (twice 1 2))"},
            "config.scm:4:2",
            "Wrong number of arguments",
        ),
        (
            {"config.scm": "(define two 2)\n(libvirt-domain (memory (* two 4G)))"},
            "config.scm:2:31",
            "4G: unbound variable",
        ),
    ],
)
def test_what_a_configuration_loads(
    tmp_path: Path, files: dict[str, str], place: str, words: str
) -> None:
    """It is told once, and in the file where it is."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    refused = pyguixvm("check", "-L", tmp_path, tmp_path / "config.scm")
    assert refused.status == 3, refused.err
    (told,) = [line for line in refused.err.splitlines() if words in line]
    assert told.startswith(f"{tmp_path}/{place}: error: "), refused.err


def test_what_guix_does_not_check(tmp_path: Path) -> None:
    text = """
(virtual-machine (operating-system (operating-system (inherit os) (FIELD 42))))
"""
    for field in ("host-name", "label", "file-systems", "bootloader", "users"):
        file = config(tmp_path, text.replace("FIELD", field))
        line = file.read_text().count("\n")
        refused = pyguixvm("check", file)
        assert refused.status == 3, refused.err
        (told,) = [line for line in refused.err.splitlines() if "error: " in line]
        assert told.startswith(f"{file}:{line}:"), refused.err
        assert f"{field}: 42 is not a" in told


def test_a_module_of_guix_that_is_missing(tmp_path: Path) -> None:
    """What does not work without it is told, and nothing that follows from that."""
    file = tmp_path / "config.scm"
    file.write_text('(define fs\n  (file-system (mount-point "/")))\n')
    refused = pyguixvm("check", file)
    assert refused.status == 3, refused.err
    assert f"{file}:2:3: error: file-system: unbound variable" in refused.err
    assert "mount-point" not in refused.err
    assert "(use-modules (gnu system file-systems))" in refused.err


def test_machines_that_are_left_out(tmp_path: Path) -> None:
    file = config(tmp_path, "(virtual-machine (operating-system os))\n" * 2, EXTRA_NETWORK)
    checked = pyguixvm("check", "--json", file)
    assert checked.status == 0, checked.err
    (warning,) = checked.json["warnings"]
    line = file.read_text().count("\n") - 1
    assert (warning["location"]["line"], warning["location"]["column"]) == (line, 0)
    assert f"{file}:{line}:0: this declares machines" in checked.err


def test_a_service_that_guix_refuses(tmp_path: Path) -> None:
    text = "(virtual-machine (operating-system os))"
    extra = "(service nscd-service-type)"
    refused = pyguixvm("check", config(tmp_path, text, extra))
    assert refused.status == 3
    assert "nscd" in refused.err


def test_a_build_that_fails_shows_its_log(tmp_path: Path) -> None:
    extra = (
        '(extra-special-file "/broken" (computed-file "broken" '
        '#~(begin (display "it broke\\n") (exit (if #$output 3 4)))))'
    )
    failed = pyguixvm("build", config(tmp_path, "(virtual-machine (operating-system os))", extra))
    assert failed.status == 4, failed.err
    assert "it broke" in failed.err
    assert "the whole log: /var/log/guix/drvs/" in failed.err
    # What else Guix says is too much for a pipe: it is in a file.
    assert "building /gnu/store/" not in failed.err
    (told,) = re.findall("what Guix writes goes to (.*)", failed.err)
    assert "building /gnu/store/" in Path(told).read_text()


def test_a_domain_that_is_not_ours_is_left_alone() -> None:
    xml = (
        "<domain type='qemu'><name>agent</name><memory>65536</memory>"
        "<os><type>hvm</type></os></domain>"
    )
    file = Path("/tmp/foreign-domain.xml")
    file.write_text(xml)
    virsh("define", str(file))
    before = virsh("dumpxml", "agent")
    try:
        for verb in (["deploy", str(CONFIGS / "agent.scm")], ["undefine", "--yes", "agent"]):
            refused = pyguixvm(*verb)
            assert refused.status == 1, refused.err
            assert "pyguixvm did not make" in refused.err or "left alone" in refused.err
        assert virsh("dumpxml", "agent") == before
    finally:
        virsh("undefine", "agent")
        file.unlink()


def test_a_mac_address_that_another_domain_has(tmp_path: Path) -> None:
    mac = "52:54:00:0f:0f:0f"
    foreign = tmp_path / "foreign.xml"
    foreign.write_text(
        "<domain type='qemu'><name>foreign</name><memory>65536</memory><os><type>hvm</type></os>"
        "<devices><interface type='network'><source network='default'/>"
        f"<mac address='{mac.upper()}'/></interface></devices></domain>"
    )
    text = (
        f"(virtual-machine (operating-system os) (libvirt-domain (networking (mac-address {mac}))))"
    )
    file = config(tmp_path, text)
    virsh("define", str(foreign))
    before = virsh("dumpxml", "foreign")
    try:
        planned = pyguixvm("plan", file)
        refused = pyguixvm("deploy", file)
        assert virsh("dumpxml", "foreign") == before
    finally:
        virsh("undefine", "foreign")
    assert "x small: refused: " in planned.out
    assert refused.status == 1, refused.err
    for part in (mac, "'small'", "domain 'foreign'", "Declare another mac-address"):
        assert part in refused.err
    assert "small" not in virsh("list", "--all", "--name").split()


def test_a_storage_smaller_than_the_image(tmp_path: Path, clean: Callable[[str], None]) -> None:
    clean("small")
    file = tmp_path / "config.scm"
    file.write_text(SMALLER)
    refused = pyguixvm("deploy", file)
    assert refused.status == 1, refused.err
    assert "200M" in refused.err
    assert "pyguixvm-small" not in virsh("vol-list", "default")
    assert "small" not in virsh("list", "--all", "--name").split()


def test_a_guest_that_does_not_get_ready(tmp_path: Path, clean: Callable[[str], None]) -> None:
    clean("small")
    (tmp_path / "disk.raw").write_bytes(boot_sector.on_disk(boot_sector.halting()))
    file = tmp_path / "config.scm"
    file.write_text(HALTING)
    late = pyguixvm("deploy", file)
    assert late.status == 7, late.err
    assert "never said" in late.err
    assert "the console's last lines:" in late.err
    assert virsh("domstate", "small") == "running"


def test_no_libvirt(tmp_path: Path) -> None:
    text = "(virtual-machine (operating-system os))"
    refused = pyguixvm("-c", "qemu+unix:///system?socket=/nowhere", "plan", config(tmp_path, text))
    assert refused.status == 5
    assert "/nowhere" in refused.err


def test_no_daemon(tmp_path: Path) -> None:
    text = "(virtual-machine (operating-system os))"
    file = config(tmp_path, text)
    refused = pyguixvm("build", file, GUIX_DAEMON_SOCKET="/nowhere/socket")
    assert refused.status == 4, refused.err
    assert "guix-daemon" in refused.err


def test_the_configuration_may_speak(tmp_path: Path) -> None:
    text = '(display "hello from the configuration\\n") (virtual-machine (operating-system os))'
    spoken = pyguixvm("check", "--json", config(tmp_path, text))
    assert spoken.status == 0, spoken.err
    assert "hello from the configuration" in spoken.err
    assert spoken.json["machines"][0]["machine"] == "small"
