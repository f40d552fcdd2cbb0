"""Commands on single sets; unions, intersections and differences are in sets_algebra. [compiled]

Rule: a random member is a position drawn from the context, so SPOP removes the same members on every node.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, parse_count
from durakv.commands.collection import REPEATS_MAX, after_removal, created, parse_positive, sample
from durakv.commands.context import NOTIFY_SET, ReadContext, WriteContext
from durakv.commands.scan import parse_cursor, parse_options, scan_mapping
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.values.setvalue import SetValue
from durakv.resp.errors import SYNTAX, VALUE_OUT_OF_RANGE, CommandError
from durakv.resp.types import Reply, SetReply

COMMANDS: Final = Commands("set")

_KEY_RO: Final = "RO@i1+r0/1/0"
_KEY_ACCESS: Final = "RO|ACCESS@i1+r0/1/0"
_BY_CHANCE: Final = "nondeterministic_output"


# -- writing -------------------------------------------------------------------------------------------------------


@COMMANDS.write("SADD", arity=-3, since="1.0.0", flags="denyoom fast", keys="RW|INSERT@i1+r0/1/0",
                summary="Adds members to a set, creating it if needed.", complexity="O(1) per member")  # fmt: skip
def sadd(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many are new. Source: t_set.c saddCommand()."""
    key = argv[1]
    value = ctx.db.typed(key, SetValue)
    is_new = value is None
    if value is None:
        value = SetValue()
        ctx.db.put(key, value)
        created(ctx, key)
    n = len(argv)
    if n == 3:
        if is_new:
            value.expect(1, argv[2])
        added = 1 if value.add(argv[2]) else 0
    else:
        value.expect(n - 2, argv[2])
        added = 0
        for i in range(2, n):
            if value.add(argv[i]):
                added += 1
    if added:
        if not is_new:
            ctx.db.touched(key)
        if ctx.notify_mask:
            ctx.notify(NOTIFY_SET, b"sadd", key)
    return added


@COMMANDS.write("SREM", arity=-3, since="1.0.0", flags="fast", keys="RW|DELETE@i1+r0/1/0",
                summary="Removes members from a set, and the set with its last member.",
                complexity="O(N), N the number of members named")  # fmt: skip
def srem(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_set.c sremCommand()."""
    value = ctx.db.typed(argv[1], SetValue)
    if value is None:
        return 0
    removed = 0
    for i in range(2, len(argv)):
        if value.remove(argv[i]):
            removed += 1
    if removed:
        after_removal(ctx, argv[1], len(value.members), NOTIFY_SET, b"srem")
    return removed


@COMMANDS.write("SMOVE", arity=4, since="1.0.0", flags="fast",
                keys="RW|ACCESS|DELETE@i1+r0/1/0 RW|INSERT@i2+r0/1/0",
                summary="Moves a member from one set to another.")  # fmt: skip
def smove(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 when moved, else 0. Source: t_set.c smoveCommand()."""
    key, member = argv[2], argv[3]
    source = ctx.db.typed(argv[1], SetValue)
    if source is None:
        return 0
    value = ctx.db.typed(key, SetValue)
    if source is value:
        return 1 if member in source.positions else 0
    if not source.remove(member):
        return 0
    after_removal(ctx, argv[1], len(source.members), NOTIFY_SET, b"srem")
    if value is None:
        value = SetValue()
        value.expect(1, member)
        ctx.db.put(key, value)
        created(ctx, key)
    if value.add(member):
        ctx.db.touched(key)
        if ctx.notify_mask:
            ctx.notify(NOTIFY_SET, b"sadd", key)
    return 1


@COMMANDS.write("SPOP", arity=-2, since="1.0.0", flags="fast", keys="RW|ACCESS|DELETE@i1+r0/1/0", tips=_BY_CHANCE,
                summary="Removes and returns members chosen at random.",
                complexity="O(N), N the number of members returned")  # fmt: skip
def spop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: bulk or null; with a count a set. Source: t_set.c spopCommand()."""
    key = argv[1]
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    if len(argv) == 2:
        value = ctx.db.typed(key, SetValue)
        if value is None:
            return None
        member = value.pop_at(ctx.below(len(value.members)))
        after_removal(ctx, key, len(value.members), NOTIFY_SET, b"spop")
        return member
    count = parse_positive(argv[2])
    value = ctx.db.typed(key, SetValue)
    out: list[Reply] = []
    if value is None or count == 0:
        return SetReply(out)
    size = len(value.members)
    if count >= size:
        # The value goes as a whole: its members need not be taken out one by one.
        out.extend(value.members)
        after_removal(ctx, key, 0, NOTIFY_SET, b"spop")
        return SetReply(out)
    out.extend([value.pop_at(ctx.below(left)) for left in range(size, size - count, -1)])
    after_removal(ctx, key, size - count, NOTIFY_SET, b"spop")
    return SetReply(out)


# -- reading -------------------------------------------------------------------------------------------------------


@COMMANDS.read("SISMEMBER", arity=3, since="1.0.0", flags="fast", keys=_KEY_RO,
               summary="Tells whether a set has a member.")  # fmt: skip
def sismember(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: t_set.c sismemberCommand()."""
    value = ctx.db.typed(argv[1], SetValue)
    return 1 if value is not None and argv[2] in value.positions else 0


@COMMANDS.read("SMISMEMBER", arity=-3, since="6.2.0", flags="fast", keys=_KEY_ACCESS,
               summary="Tells which of several members a set has.",
               complexity="O(N), N the number of members named")  # fmt: skip
def smismember(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of 1 or 0. Source: t_set.c smismemberCommand()."""
    value = ctx.db.typed(argv[1], SetValue)
    if value is None:
        return [0] * (len(argv) - 2)
    positions = value.positions
    return [1 if member in positions else 0 for member in argv[2:]]


@COMMANDS.read("SCARD", arity=2, since="1.0.0", flags="fast", keys=_KEY_RO,
               summary="Returns the number of members of a set.")  # fmt: skip
def scard(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: t_set.c scardCommand()."""
    value = ctx.db.typed(argv[1], SetValue)
    return 0 if value is None else len(value.members)


@COMMANDS.read("SMEMBERS", arity=2, since="1.0.0", keys=_KEY_ACCESS, tips="nondeterministic_output_order",
               summary="Returns all members of a set.", complexity="O(N), N the number of members")  # fmt: skip
def smembers(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: set. Source: t_set.c sinterCommand()."""
    value = ctx.db.typed(argv[1], SetValue)
    return SetReply([] if value is None else list[Reply](value.members))


@COMMANDS.read("SRANDMEMBER", arity=-2, since="1.0.0", keys=_KEY_ACCESS, tips=_BY_CHANCE,
               summary="Returns members chosen at random.",
               complexity="O(N), N the number of members returned")  # fmt: skip
def srandmember(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk or null; with a count array, repeats allowed when negative. Source: t_set.c srandmemberCommand()."""
    if len(argv) == 2:
        value = ctx.db.typed(argv[1], SetValue)
        return None if value is None else value.members[ctx.below(len(value.members))]
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    count = parse_count(argv[2], -INT64_MAX, INT64_MAX)
    if count < -REPEATS_MAX:
        raise CommandError(VALUE_OUT_OF_RANGE)
    value = ctx.db.typed(argv[1], SetValue)
    if value is None or count == 0:
        return []
    members = value.members
    size = len(members)
    if count < 0:
        return [members[ctx.below(size)] for _ in range(-count)]
    if count >= size:
        return list(members)
    return [members[i] for i in sample(ctx.below, size, count)]


@COMMANDS.read("SSCAN", arity=-3, since="2.8.0", keys=_KEY_ACCESS, tips=_BY_CHANCE,
               summary="Iterates over the members of a set.",
               complexity="O(1) per call, O(N) for a whole pass")  # fmt: skip
def sscan(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: next cursor and an array. Source: t_set.c sscanCommand()."""
    cursor = parse_cursor(argv[2])
    value = ctx.db.typed(argv[1], SetValue)
    if value is None:
        return [b"0", []]
    options = parse_options(argv, 3, b"set")
    following, members = scan_mapping(value.positions, len(value.members), cursor, options.count)
    return [b"%d" % following, [member for member in members if options.wants(member)]]
