# SPDX-License-Identifier: GPL-3.0-or-later
"""Each floor of the house imports only what stands below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pyguixvm"

# From the ground up.  Rooms on one floor do not know each other.
FLOORS: list[set[str]] = [
    {"errors", "events", "interruption"},
    {"model", "process", "watch"},
    {"xml", "guix", "image"},
    {"hypervisor"},
    {"reconcile"},
    {"pipeline", "operations", "history", "monitor"},
    {"cli"},
]
# Operations on machines that exist take the session from the pipeline beside them.
NEIGHBOURS = {
    ("operations", "pipeline"),
    ("history", "pipeline"),
    ("history", "operations"),
    ("events", "errors"),
}
# Pure: no commands, no hypervisor, no clock.
PURE = [
    "model",
    "xml",
    "plan/difference.py",
    "plan/drift.py",
    "plan/disks.py",
    "plan/planner.py",
    "plan/plan.py",
    "plan/status.py",
    "plan/garbage.py",
]
IMPURE = {"libvirt", "libvirt_qemu", "subprocess", "time", "socket", "datetime"}
# Who alone may import what.
ONLY = {
    "subprocess": {"process.py"},
    "libvirt": {"hypervisor"},
    "libvirt_qemu": {"hypervisor"},
    "click": {"cli"},
    "rich": {"cli"},
    "watchdog": {"watch.py"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_imports_only_from_below(module: Path) -> None:
    if room(module) in {"__init__", "__main__"}:
        return
    here = room(module)
    for imported in imports(module):
        parts = imported.split(".")
        if parts[0] != "pyguixvm" or len(parts) == 1:
            continue
        there = parts[1]
        if there in {here, "__version__"} or (here, there) in NEIGHBOURS:
            continue
        assert floor(there) < floor(here), f"{name(module)} imports {imported}"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_what_only_some_may_import(module: Path) -> None:
    tops = {imported.split(".")[0] for imported in imports(module)}
    for package, rooms in ONLY.items():
        if package in tops:
            assert name(module).split("/")[0] in rooms, f"{name(module)} imports {package}"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if name(m).startswith(tuple(PURE))], ids=name
)
def test_pure_modules_have_no_effects(module: Path) -> None:
    assert not {imported.split(".")[0] for imported in imports(module)} & IMPURE


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_only_the_command_line_prints_or_exits(module: Path) -> None:
    if room(module) in {"cli", "__main__"}:
        return
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "exit", "input"}, name(module)


def test_help_loads_nothing_heavy() -> None:
    heavy = {"libvirt", "rich", "lxml", "msgspec", "subprocess", "watchdog"}
    program = (
        "import sys; from pyguixvm.cli.app import main; main(['--help']);"
        "print(*{m.split('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert not heavy & set(done.stderr.split())
