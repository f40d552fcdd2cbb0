"""Commands that wait for a list to have elements. [compiled]

Rule: a handler tries at once and otherwise returns Parked; the engine calls it again, with the same arguments, when
one of its keys changes. Where blocking is impossible it answers as after a timeout.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.collection import parse_pop, parse_timeout
from durakv.commands.context import WriteContext
from durakv.commands.lists import MOVE_KEYS, move, parse_side, pop_first, pop_one
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.values.listvalue import ListValue
from durakv.resp.types import NULL_ARRAY, Parked, Reply

COMMANDS: Final = Commands("list")


def _blocking_pop(ctx: WriteContext, argv: Argv, right: bool) -> Reply:
    timeout_ms = parse_timeout(argv[-1], ctx.now_ms)
    keys = argv[1:-1]
    for key in keys:
        value = ctx.db.typed(key, ListValue)
        if value is not None:
            return [key, pop_one(ctx, key, value, right)]
    return Parked(keys, timeout_ms, b"list", NULL_ARRAY) if ctx.can_block else NULL_ARRAY


def _blocking_move(ctx: WriteContext, argv: Argv, timeout_ms: int, from_right: bool, to_right: bool) -> Reply:
    item = move(ctx, argv, from_right, to_right)
    if item is None and ctx.can_block:
        # Not the null of LMOVE: after a timeout upstream answers for all lists alike.
        return Parked([argv[1]], timeout_ms, b"list", NULL_ARRAY)
    return item


@COMMANDS.write("BLPOP", arity=-3, since="2.0.0", flags="blocking", keys="RW|ACCESS|DELETE@i1+r-2/1/0",
                summary="Removes and returns the head of the first of several lists that exists, or waits for one.",
                complexity="O(N), N the number of keys")  # fmt: skip
def blpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, element] or null array. Source: t_list.c blockingPopGenericCommand()."""
    return _blocking_pop(ctx, argv, right=False)


@COMMANDS.write("BRPOP", arity=-3, since="2.0.0", flags="blocking", keys="RW|ACCESS|DELETE@i1+r-2/1/0",
                summary="Removes and returns the tail of the first of several lists that exists, or waits for one.",
                complexity="O(N), N the number of keys")  # fmt: skip
def brpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, element] or null array. Source: t_list.c blockingPopGenericCommand()."""
    return _blocking_pop(ctx, argv, right=True)


@COMMANDS.write("BLMPOP", arity=-5, since="7.0.0", flags="blocking", keys="RW|ACCESS|DELETE@i2+n0/1/1",
                summary="Removes and returns elements of the first of several lists that exists, or waits for one.",
                complexity="O(N+M), N keys and M elements returned")  # fmt: skip
def blmpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, elements] or null array. Source: t_list.c lmpopGenericCommand()."""
    keys, right, count = parse_pop(argv, 2, b"LEFT", b"RIGHT")
    timeout_ms = parse_timeout(argv[1], ctx.now_ms)
    reply = pop_first(ctx, keys, right, count)
    if reply is not None:
        return reply
    return Parked(keys, timeout_ms, b"list", NULL_ARRAY) if ctx.can_block else NULL_ARRAY


@COMMANDS.write("BLMOVE", arity=6, since="6.2.0", flags="denyoom blocking", keys=MOVE_KEYS,
                summary="Moves an element from one list to another and returns it, or waits for one.")  # fmt: skip
def blmove(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: bulk or null. Source: t_list.c blmoveCommand()."""
    from_right = parse_side(argv[3])
    to_right = parse_side(argv[4])
    return _blocking_move(ctx, argv, parse_timeout(argv[5], ctx.now_ms), from_right, to_right)


@COMMANDS.write("BRPOPLPUSH", arity=4, since="2.2.0", flags="denyoom blocking", keys=MOVE_KEYS,
                summary="Moves the last element of a list to the head of another, or waits for one.")  # fmt: skip
def brpoplpush(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: bulk or null. Source: t_list.c brpoplpushCommand()."""
    return _blocking_move(ctx, argv, parse_timeout(argv[3], ctx.now_ms), from_right=True, to_right=False)
