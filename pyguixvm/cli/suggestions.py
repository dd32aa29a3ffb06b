# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody may have meant who typed a verb or an option that there is not."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

# The words of virsh, docker, terraform, vagrant and the shell for what our verbs do.
_OTHER_WORDS = {
    "deploy": ("apply", "up", "create", "define", "run", "install", "reconfigure", "converge",
               "update", "upgrade", "sync"),
    "plan": ("diff", "dry-run", "dryrun", "preview", "what-if"),
    "check": ("validate", "lint", "verify", "eval", "evaluate"),
    "list": ("ls", "ps", "machines", "vms"),
    "status": ("show", "info", "state", "dominfo", "drift"),
    "undefine": ("delete", "rm", "remove", "down", "uninstall", "purge"),
    "shutdown": ("stop", "halt", "off"),
    "destroy": ("kill", "poweroff", "power-off", "reset"),
    "reboot": ("restart",),
    "start": ("boot", "resume", "power-on", "on"),
    "console": ("log", "logs", "attach", "connect", "serial"),
    "generations": ("history", "list-generations", "versions"),
    "rollback": ("roll-back", "revert", "undo", "switch-generation"),
    "gc": ("prune", "clean", "cleanup", "delete-generations"),
    "xml": ("dumpxml", "render", "export"),
    "autostart": ("enable", "disable"),
    "build": ("image", "make"),
    "ssh": ("login", "exec", "shell"),
    "cp": ("scp", "copy"),
    "migrate": ("move", "mv", "transfer"),
    "repl": ("virsh",),
    "graph": ("dot", "draw", "svg"),
}  # fmt: skip
_VERBS = {word: verb for verb, words in _OTHER_WORDS.items() for word in words}
# What changes nothing, in the words of other programs.
_DRY = frozenset({"--dryrun", "--dry-run", "--dry", "-n", "--noop", "--no-op", "--preview",
                  "--diff", "--check", "--what-if", "--simulate"})  # fmt: skip


def verb_hint(word: str, verbs: Collection[str]) -> str | None:
    """Return which of VERBS is likely meant by WORD, in words; None if none is."""
    if word in _VERBS:
        return f"Did you mean 'pyguixvm {_VERBS[word]}'?"
    close = get_close_matches(word, [*verbs, *_VERBS], n=1, cutoff=0.75)
    return f"Did you mean 'pyguixvm {_VERBS.get(close[0], close[0])}'?" if close else None


def option_hint(option: str, verb: str | None) -> str | None:
    """Return what is likely meant by OPTION of VERB, in words; None where that is not known."""
    if option in _DRY and verb in {"deploy", "watch", "build"}:
        return "'pyguixvm plan' shows what deploy would do, and changes nothing."
    return None
