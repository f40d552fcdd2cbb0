"""Unions, intersections and differences of sets, replied or stored. [compiled]

Rule: results are built in the order of the sets' own members, never through an unordered collection. All keys are
checked for their type before anything is computed.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, parse_count
from durakv.commands.collection import parse_positive, store_result
from durakv.commands.context import NOTIFY_SET, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.keyspace import Db
from durakv.keyspace.values.setvalue import SetValue
from durakv.resp.errors import LIMIT_NEGATIVE, NUMKEYS_NOT_POSITIVE, NUMKEYS_TOO_MANY, SYNTAX, CommandError
from durakv.resp.types import Reply, SetReply

COMMANDS: Final = Commands("set")

_KEYS: Final = "RO|ACCESS@i1+r-1/1/0"
_STORE_KEYS: Final = "OW|UPDATE@i1+r0/1/0 RO|ACCESS@i2+r-1/1/0"
_ANY_ORDER: Final = "nondeterministic_output_order"


def _sets(db: Db, keys: list[bytes]) -> list[SetValue | None]:
    return [db.typed(key, SetValue) for key in keys]


def _inter(sets: list[SetValue | None], limit: int) -> list[bytes]:
    """Members of all sets, up to ``limit`` of them (0: all)."""
    present = [value for value in sets if value is not None]
    if len(present) < len(sets):
        return []
    present.sort(key=len)
    smallest = present[0]
    others = [value.positions for value in present[1:] if value is not smallest]
    out: list[bytes] = []
    for member in smallest.members:
        for positions in others:
            if member not in positions:
                break
        else:
            out.append(member)
            if len(out) == limit:
                break
    return out


def _union(sets: list[SetValue | None]) -> list[bytes]:
    seen: dict[bytes, None] = {}
    for value in sets:
        if value is not None:
            for member in value.members:
                seen[member] = None
    return list(seen)


def _diff(sets: list[SetValue | None]) -> list[bytes]:
    first = sets[0]
    if first is None:
        return []
    others = [value.positions for value in sets[1:] if value is not None]
    out: list[bytes] = []
    for member in first.members:
        for positions in others:
            if member in positions:
                break
        else:
            out.append(member)
    return out


def _store(ctx: WriteContext, key: bytes, members: list[bytes], event: bytes) -> int:
    return store_result(ctx, key, SetValue.of(members), len(members), NOTIFY_SET, event)


@COMMANDS.read("SINTER", arity=-2, since="1.0.0", keys=_KEYS, tips=_ANY_ORDER,
               summary="Returns the members that all sets have.",
               complexity="O(N*M), N the size of the smallest set and M the number of sets")  # fmt: skip
def sinter(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: set. Source: t_set.c sinterGenericCommand()."""
    return SetReply(list[Reply](_inter(_sets(ctx.db, argv[1:]), 0)))


@COMMANDS.read("SINTERCARD", arity=-3, since="7.0.0", keys="RO|ACCESS@i1+n0/1/1",
               summary="Returns the number of members that all sets have.",
               complexity="O(N*M), N the size of the smallest set and M the number of sets")  # fmt: skip
def sintercard(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer, at most LIMIT. Source: t_set.c sinterCardCommand()."""
    numkeys = parse_count(argv[1], 1, INT64_MAX, NUMKEYS_NOT_POSITIVE)
    if numkeys > len(argv) - 2:
        raise CommandError(NUMKEYS_TOO_MANY)
    limit = 0
    i = 2 + numkeys
    while i < len(argv):
        if argv[i].upper() != b"LIMIT" or i + 1 >= len(argv):
            raise CommandError(SYNTAX)
        limit = parse_positive(argv[i + 1], LIMIT_NEGATIVE)
        i += 2
    return len(_inter(_sets(ctx.db, argv[2 : 2 + numkeys]), limit))


@COMMANDS.write("SINTERSTORE", arity=-3, since="1.0.0", flags="denyoom", keys=_STORE_KEYS,
                summary="Stores the members that all sets have.",
                complexity="O(N*M), N the size of the smallest set and M the number of sets")  # fmt: skip
def sinterstore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: t_set.c sinterGenericCommand()."""
    return _store(ctx, argv[1], _inter(_sets(ctx.db, argv[2:]), 0), b"sinterstore")


@COMMANDS.read("SUNION", arity=-2, since="1.0.0", keys=_KEYS, tips=_ANY_ORDER,
               summary="Returns the members that any of the sets has.",
               complexity="O(N), N the number of members of all sets")  # fmt: skip
def sunion(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: set. Source: t_set.c sunionDiffGenericCommand()."""
    return SetReply(list[Reply](_union(_sets(ctx.db, argv[1:]))))


@COMMANDS.write("SUNIONSTORE", arity=-3, since="1.0.0", flags="denyoom", keys=_STORE_KEYS,
                summary="Stores the members that any of the sets has.",
                complexity="O(N), N the number of members of all sets")  # fmt: skip
def sunionstore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: t_set.c sunionDiffGenericCommand()."""
    return _store(ctx, argv[1], _union(_sets(ctx.db, argv[2:])), b"sunionstore")


@COMMANDS.read("SDIFF", arity=-2, since="1.0.0", keys=_KEYS, tips=_ANY_ORDER,
               summary="Returns the members of the first set that no other set has.",
               complexity="O(N*M), N the size of the first set and M the number of sets")  # fmt: skip
def sdiff(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: set. Source: t_set.c sunionDiffGenericCommand()."""
    return SetReply(list[Reply](_diff(_sets(ctx.db, argv[1:]))))


@COMMANDS.write("SDIFFSTORE", arity=-3, since="1.0.0", flags="denyoom", keys=_STORE_KEYS,
                summary="Stores the members of the first set that no other set has.",
                complexity="O(N*M), N the size of the first set and M the number of sets")  # fmt: skip
def sdiffstore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: t_set.c sunionDiffGenericCommand()."""
    return _store(ctx, argv[1], _diff(_sets(ctx.db, argv[2:])), b"sdiffstore")
