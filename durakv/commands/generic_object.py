"""OBJECT: what can be asked of the inside of a value. [compiled]

Rule: nothing here may be relied on by applied state; encodings are names, not layouts. Times and frequencies of use are
this node's own, and kept only under an LRU or LFU policy; otherwise IDLETIME answers 0.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext, ReadContext
from durakv.commands.generic_values import encoding_of
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import CommandError
from durakv.resp.types import Reply, Simple

COMMANDS: Final = Commands("generic")

NO_LFU: Final = (
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching "
    "between policies at runtime LRU and LFU data will take some time to adjust."
)
NO_LRU: Final = (
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies "
    "at runtime LRU and LFU data will take some time to adjust."
)
_KEY: Final = "RO@i2+r0/1/0"
_HELP: Final = (
    b"OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    b"ENCODING <key>",
    b"    Return the kind of internal representation used in order to store the value",
    b"    associated with a <key>.",
    b"FREQ <key>",
    b"    Return the access frequency index of the <key>. The returned integer is",
    b"    proportional to the logarithm of the recent access frequency of the key.",
    b"IDLETIME <key>",
    b"    Return the idle time of the <key>, that is the approximated number of",
    b"    seconds elapsed since the last access to the key.",
    b"REFCOUNT <key>",
    b"    Return the number of references of the value associated with the specified",
    b"    <key>.",
    b"HELP",
    b"    Print this help.",
)


@COMMANDS.read("OBJECT|ENCODING", arity=3, since="2.2.3", keys=_KEY, tips="nondeterministic_output",
               summary="Returns the name of the encoding of a value.")  # fmt: skip
def encoding(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: a word, or null without the key. Source: object.c objectCommand()."""
    value = ctx.db.get(argv[2])
    return None if value is None else encoding_of(value)


@COMMANDS.read("OBJECT|REFCOUNT", arity=3, since="2.2.3", keys=_KEY, tips="nondeterministic_output",
               summary="Returns the reference count of a value, always 1.")  # fmt: skip
def refcount(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: 1, or null without the key. Source: object.c objectCommand()."""
    return None if ctx.db.get(argv[2]) is None else 1


def _untouched(ctx: ReadContext, key: bytes) -> bool:
    """Whether the key is there; looking is no use of it."""
    access = ctx.ks.access
    if access is None:
        return ctx.db.get(key) is not None
    paused, access.paused = access.paused, True
    found = ctx.db.get(key) is not None
    access.paused = paused
    return found


@COMMANDS.read("OBJECT|IDLETIME", arity=3, since="2.2.3", keys=_KEY, tips="nondeterministic_output",
               summary="Returns the time since the last access to a value.")  # fmt: skip
def idletime(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: seconds, 0 without an LRU policy; null without the key. Source: object.c objectCommand()."""
    if not _untouched(ctx, argv[2]):
        return None
    access = ctx.ks.access
    if access is None:
        return 0
    if access.lfu:
        raise CommandError(NO_LRU)
    return access.idle_s(ctx.db, argv[2])


@COMMANDS.read("OBJECT|FREQ", arity=3, since="4.0.0", keys=_KEY, tips="nondeterministic_output",
               summary="Returns the logarithmic access frequency counter of a value.")  # fmt: skip
def freq(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: 0 .. 255, null without the key. Raises CommandError. Source: object.c objectCommand()."""
    if not _untouched(ctx, argv[2]):
        return None
    access = ctx.ks.access
    if access is None or not access.lfu:
        raise CommandError(NO_LFU)
    return access.frequency(ctx.db, argv[2])


@COMMANDS.local("OBJECT|HELP", arity=2, since="6.2.0", flags="loading stale",
                summary="Describes the subcommands.")  # fmt: skip
def help_(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: lines. Source: object.c objectCommand()."""
    lines: list[object] = [Simple(line) for line in _HELP]
    return lines
