"""Commands that wait for a sorted set to have members. [compiled]

Rule: a handler tries at once and otherwise returns Parked; the engine calls it again, with the same arguments, when
one of its keys changes. Where blocking is impossible it answers as after a timeout.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.collection import parse_pop, parse_timeout
from durakv.commands.context import WriteContext
from durakv.commands.sorted_sets import pop_first, pop_pairs
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.values.zset import ZSet
from durakv.resp.types import NULL_ARRAY, Parked, Reply

COMMANDS: Final = Commands("sorted_set")


def _blocking_pop(ctx: WriteContext, argv: Argv, greatest: bool) -> Reply:
    timeout_ms = parse_timeout(argv[-1], ctx.now_ms)
    keys = argv[1:-1]
    for key in keys:
        value = ctx.db.typed(key, ZSet)
        if value is not None:
            score, member = pop_pairs(ctx, key, value, greatest, 1)[0]
            return [key, member, score]
    return Parked(keys, timeout_ms, b"zset", NULL_ARRAY) if ctx.can_block else NULL_ARRAY


@COMMANDS.write("BZPOPMIN", arity=-3, since="5.0.0", flags="fast blocking", keys="RW|ACCESS|DELETE@i1+r-2/1/0",
                summary="Removes and returns the lowest member of the first sorted set that exists, or waits for one.",
                complexity="O(log(N)), N the size of the sorted set")  # fmt: skip
def bzpopmin(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, member, score] or null array. Source: t_zset.c blockingGenericZpopCommand()."""
    return _blocking_pop(ctx, argv, greatest=False)


@COMMANDS.write("BZPOPMAX", arity=-3, since="5.0.0", flags="fast blocking", keys="RW|ACCESS|DELETE@i1+r-2/1/0",
                summary="Removes and returns the highest member of the first sorted set that exists, or waits for one.",
                complexity="O(log(N)), N the size of the sorted set")  # fmt: skip
def bzpopmax(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, member, score] or null array. Source: t_zset.c blockingGenericZpopCommand()."""
    return _blocking_pop(ctx, argv, greatest=True)


@COMMANDS.write("BZMPOP", arity=-5, since="7.0.0", flags="blocking", keys="RW|ACCESS|DELETE@i2+n0/1/1",
                summary="Removes and returns members of the first sorted set that exists, or waits for one.",
                complexity="O(K+M*log(N)), K keys, N the size of the sorted set and M members returned")  # fmt: skip
def bzmpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, [[member, score], ...]] or null array. Source: t_zset.c zmpopGenericCommand()."""
    keys, greatest, count = parse_pop(argv, 2, b"MIN", b"MAX")
    timeout_ms = parse_timeout(argv[1], ctx.now_ms)
    reply = pop_first(ctx, keys, greatest, count)
    if reply is not None:
        return reply
    return Parked(keys, timeout_ms, b"zset", NULL_ARRAY) if ctx.can_block else NULL_ARRAY
