# SPDX-License-Identifier: GPL-3.0-or-later
"""The house: each floor imports only what stands below it, and folders keep their promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pyguixvm"

# From the ground up.  Rooms on one floor do not know each other.
FLOORS: list[set[str]] = [
    {"errors", "interruption", "confinement", "printable", "state_directory", "sparse_file"}
    | {"decoding", "pipes", "system_calls", "whose", "advice"},
    {"model", "process", "daemon", "watch", "digest"},
    {"xml", "events"},
    {"plan", "hypervisor", "guix", "image"},
    {"apply"},
    {"commands"},
    {"exporter"},
    {"cli"},
]
NEIGHBOURS = {
    ("advice", "errors"),
    ("confinement", "system_calls"),
    ("daemon", "process"),
    ("state_directory", "whose"),
}
# Nothing in these folders has effects: no commands, no hypervisor, no files, no clock.
PURE = {"model", "xml", "plan"}
IMPURE = {
    "datetime", "fcntl", "libvirt", "libvirt_qemu", "os", "random", "secrets", "select",
    "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
# The file system by another name; names of files are no effect.
IMPURE_NAMES = {"pathlib.Path"}
# Who alone may import what.
ONLY = {
    "subprocess": {"process.py", "daemon.py"},
    "libvirt": {"hypervisor"},
    "libvirt_qemu": {"hypervisor"},
    "click": {"cli"},
    "rich": {"cli"},
    "watchdog": {"watch.py"},
    "prometheus_client": {"exporter"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


@cache
def imports(module: Path) -> set[str]:
    """Return what MODULE imports, inside functions and for types alone, too."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def in_rooms(rooms: set[str]) -> list[Path]:
    return [module for module in MODULES if room(module) in rooms]


def test_every_module_stands_on_a_floor() -> None:
    rooms = {room(module) for module in MODULES} - {"__init__", "__main__"}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_imports_only_from_below(module: Path) -> None:
    here = room(module)
    if here in {"__init__", "__main__"}:
        return
    for imported in imports(module):
        parts = imported.split(".")
        if parts[0] != "pyguixvm" or len(parts) == 1:
            continue
        there = parts[1]
        if there in {here, "__version__"} or (here, there) in NEIGHBOURS:
            continue
        assert floor(there) < floor(here), f"{name(module)} imports {imported}"


@pytest.mark.parametrize("module", in_rooms(PURE), ids=name)
def test_pure_folders_have_no_effects(module: Path) -> None:
    imported = imports(module)
    assert not {each.split(".")[0] for each in imported} & IMPURE
    assert not imported & IMPURE_NAMES


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_what_only_some_may_import(module: Path) -> None:
    tops = {imported.split(".")[0] for imported in imports(module)}
    for package, rooms in ONLY.items():
        if package in tops:
            assert name(module).split("/")[0] in rooms, f"{name(module)} imports {package}"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_only_the_command_line_prints_or_exits(module: Path) -> None:
    if room(module) in {"cli", "__main__"}:
        return
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "exit", "input"}, name(module)


def test_the_drawing_in_the_readme_is_the_house() -> None:
    """Its rooms are those that there are, and each line stands on the lines below it."""
    drawing = re.search(r"```house\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert drawing is not None
    lines = [line.split("  ")[0].split() for line in drawing[1].splitlines() if line.strip()]
    drawn = [{word.removesuffix("/").removesuffix(".py") for word in line} for line in lines]
    assert drawn == list(reversed(FLOORS))


def test_help_loads_nothing_heavy() -> None:
    heavy = {"libvirt", "prometheus_client", "rich", "lxml", "msgspec", "subprocess", "watchdog"}
    program = (
        "import sys; from pyguixvm.cli.app import main; main(['--help']);"
        "print(*{m.split('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert not heavy & set(done.stderr.split())


def test_an_evaluation_loads_nothing_that_deploys() -> None:
    others = {"pyguixvm.cli.declaration", "pyguixvm.cli.documents", "pyguixvm.commands.deploy"}
    program = "import sys, pyguixvm.cli.description; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not (others | {"libvirt", "lxml", "rich"}) & set(done.stdout.split())
