"""Commands on members of one sorted set: adding, scoring, ranking, removing, popping, sampling. [compiled]

Ranges are in sorted_sets_range, unions and the like in sorted_sets_algebra, waiting in sorted_sets_blocking.
Rule: every pop goes through pop_pairs(), so blocking and plain forms cannot differ.
"""

from __future__ import annotations

import math
from typing import Final

from durakv.commands.args import parse_double
from durakv.commands.collection import (
    after_removal,
    created,
    parse_pop,
    parse_positive,
    parse_sample_count,
    sample,
)
from durakv.commands.context import NOTIFY_ZSET, ReadContext, WriteContext
from durakv.commands.scan import parse_cursor, parse_options, scan_mapping
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.values.zset import Pair, ZSet
from durakv.resp.encoder import format_double
from durakv.resp.errors import (
    SCORE_NAN,
    SYNTAX,
    ZADD_GT_LT_NX,
    ZADD_INCR_PAIR,
    ZADD_XX_NX,
    CommandError,
    wrong_arity,
)
from durakv.resp.types import NULL_ARRAY, Pairs, Reply

COMMANDS: Final = Commands("sorted_set")

_KEY_RO: Final = "RO@i1+r0/1/0"
_KEY_ACCESS: Final = "RO|ACCESS@i1+r0/1/0"
_KEY_POP: Final = "RW|ACCESS|DELETE@i1+r0/1/0"
_BY_CHANCE: Final = "nondeterministic_output"

_LETTER_A: Final = 0x41
_NX: Final = 1
_XX: Final = 2
_CH: Final = 4
_INCR: Final = 8
_GT: Final = 16
_LT: Final = 32
_OPTIONS: Final[dict[bytes, int]] = {b"NX": _NX, b"XX": _XX, b"CH": _CH, b"INCR": _INCR, b"GT": _GT, b"LT": _LT}


# -- adding --------------------------------------------------------------------------------------------------------


def _add(ctx: WriteContext, argv: Argv, flags: int) -> Reply:
    """ZADD and ZINCRBY. Source: t_zset.c zaddGenericCommand(), zsetAdd()."""
    n = len(argv)
    first = 2
    while first < n:
        text = argv[first]
        # What begins so is a number, as it mostly is.
        if text and text[0] < _LETTER_A:
            break
        option = _OPTIONS.get(text.upper(), 0)
        if option == 0:
            break
        flags |= option
        first += 1
    pairs = (n - first) // 2
    if pairs == 0 or (n - first) % 2:
        raise CommandError(SYNTAX)
    if flags:
        _check_options(flags, pairs)
    key = argv[1]
    if pairs == 1 and not flags:
        return _add_one(ctx, key, parse_double(argv[first]), argv[first + 1])
    scores = [parse_double(argv[i]) for i in range(first, n, 2)]
    members = argv[first + 1 :: 2]
    value = ctx.db.typed(key, ZSet)
    if value is None and flags & _XX:
        return None if flags & _INCR else 0
    if flags & _INCR:
        return _increment(ctx, key, value, scores[0], members[0], flags)
    if value is None:
        value = _create(ctx, key)
    value.expect(pairs, max([len(member) for member in members]))
    added = 0
    updated = 0
    for i in range(pairs):
        member = members[i]
        old = value.scores.get(member)
        if old is None:
            if not flags & _XX:
                value.set(member, scores[i])
                added += 1
        elif not flags & _NX and scores[i] != old and _allowed(flags, scores[i], old):
            value.set(member, scores[i])
            updated += 1
    if added or updated:
        ctx.db.touched(key)
        if ctx.notify_mask:
            ctx.notify(NOTIFY_ZSET, b"zadd", key)
    return added + updated if flags & _CH else added


def _add_one(ctx: WriteContext, key: bytes, score: float, member: bytes) -> int:
    """ZADD of one pair without options, the common case."""
    value = ctx.db.typed(key, ZSet)
    old: float | None = None
    if value is None:
        value = _create(ctx, key)
    else:
        old = value.scores.get(member)
        if old == score:
            return 0
        ctx.db.touched(key)
    value.set(member, score)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_ZSET, b"zadd", key)
    return 1 if old is None else 0


def _increment(ctx: WriteContext, key: bytes, value: ZSet | None, delta: float, member: bytes, flags: int) -> Reply:
    """The new score, or None when an option forbade it."""
    old = None if value is None else value.scores.get(member)
    score = delta
    if old is not None:
        if flags & _NX:
            return None
        score += old
        if math.isnan(score):
            raise CommandError(SCORE_NAN)
        if not _allowed(flags, score, old):
            return None
        if score == old:
            return score
    elif flags & _XX:
        return None
    if value is None:
        value = _create(ctx, key)
    value.set(member, score)
    ctx.db.touched(key)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_ZSET, b"zincr", key)
    return score


def _check_options(flags: int, pairs: int) -> None:
    if flags & _NX and flags & _XX:
        raise CommandError(ZADD_XX_NX)
    if (flags & (_GT | _LT) and flags & _NX) or (flags & _GT and flags & _LT):
        raise CommandError(ZADD_GT_LT_NX)
    if flags & _INCR and pairs > 1:
        raise CommandError(ZADD_INCR_PAIR)


def _allowed(flags: int, score: float, old: float) -> bool:
    """Whether GT and LT let ``score`` replace ``old``."""
    return not ((flags & _GT and score <= old) or (flags & _LT and score >= old))


def _create(ctx: WriteContext, key: bytes) -> ZSet:
    value = ZSet()
    ctx.db.put(key, value)
    created(ctx, key)
    return value


@COMMANDS.write("ZADD", arity=-4, since="1.2.0", flags="denyoom fast", keys="RW|UPDATE@i1+r0/1/0",
                summary="Adds members to a sorted set or changes their scores, creating it if needed.",
                complexity="O(log(N)) per member, N the size of the sorted set")  # fmt: skip
def zadd(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many are new, or changed too with CH; with INCR double or null. Source: t_zset.c zaddCommand()."""
    return _add(ctx, argv, 0)


@COMMANDS.write("ZINCRBY", arity=4, since="1.2.0", flags="denyoom fast", keys="RW|ACCESS|UPDATE@i1+r0/1/0",
                summary="Adds to the score of a member; an absent one counts as 0.",
                complexity="O(log(N)), N the size of the sorted set")  # fmt: skip
def zincrby(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new score. Source: t_zset.c zincrbyCommand()."""
    return _add(ctx, argv, _INCR)


# -- removing ------------------------------------------------------------------------------------------------------


@COMMANDS.write("ZREM", arity=-3, since="1.2.0", flags="fast", keys="RW|DELETE@i1+r0/1/0",
                summary="Removes members from a sorted set, and the set with its last member.",
                complexity="O(M*log(N)), N the size of the sorted set and M members named")  # fmt: skip
def zrem(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_zset.c zremCommand()."""
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return 0
    removed = 0
    for i in range(2, len(argv)):
        if value.remove(argv[i]):
            removed += 1
    if removed:
        after_removal(ctx, argv[1], len(value), NOTIFY_ZSET, b"zrem")
    return removed


def pop_pairs(ctx: WriteContext, key: bytes, value: ZSet, greatest: bool, count: int) -> list[Pair]:
    """Take up to ``count`` >= 1 pairs off one end, in the order they leave. Source: t_zset.c genericZpopCommand()."""
    size = len(value)
    count = min(count, size)
    if greatest:
        pairs = value.slice(size - count, size)
        pairs.reverse()
    else:
        pairs = value.slice(0, count)
    for pair in pairs:
        value.remove(pair[1])
    after_removal(ctx, key, size - count, NOTIFY_ZSET, b"zpopmax" if greatest else b"zpopmin")
    return pairs


def pop_first(ctx: WriteContext, keys: list[bytes], greatest: bool, count: int) -> Reply:
    """[key, [[member, score], ...]] from the first of ``keys`` that holds a sorted set, else None.

    Raises CommandError WRONGTYPE.
    """
    for key in keys:
        value = ctx.db.typed(key, ZSet)
        if value is not None:
            nested: list[Reply] = [[member, score] for score, member in pop_pairs(ctx, key, value, greatest, count)]
            return [key, nested]
    return None


def flat_pairs(pairs: list[Pair]) -> list[Reply]:
    """``[member, score, member, score, ...]``."""
    out: list[Reply] = []
    for score, member in pairs:
        out.append(member)
        out.append(score)
    return out


def _pop(ctx: WriteContext, argv: Argv, greatest: bool) -> Reply:
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    count = parse_positive(argv[2]) if len(argv) == 3 else 1
    value = ctx.db.typed(argv[1], ZSet)
    if value is None or count == 0:
        return []
    flat = flat_pairs(pop_pairs(ctx, argv[1], value, greatest, count))
    return Pairs(flat) if len(argv) == 3 else flat


@COMMANDS.write("ZPOPMIN", arity=-2, since="5.0.0", flags="fast", keys=_KEY_POP,
                summary="Removes and returns the members with the lowest scores.",
                complexity="O(M*log(N)), N the size of the sorted set and M members returned")  # fmt: skip
def zpopmin(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [member, score], with a count pairs. Source: t_zset.c zpopMinMaxCommand()."""
    return _pop(ctx, argv, greatest=False)


@COMMANDS.write("ZPOPMAX", arity=-2, since="5.0.0", flags="fast", keys=_KEY_POP,
                summary="Removes and returns the members with the highest scores.",
                complexity="O(M*log(N)), N the size of the sorted set and M members returned")  # fmt: skip
def zpopmax(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [member, score], with a count pairs. Source: t_zset.c zpopMinMaxCommand()."""
    return _pop(ctx, argv, greatest=True)


@COMMANDS.write("ZMPOP", arity=-4, since="7.0.0", keys="RW|ACCESS|DELETE@i1+n0/1/1",
                summary="Removes and returns members of the first of several sorted sets that exists.",
                complexity="O(K+M*log(N)), K keys, N the size of the sorted set and M members returned")  # fmt: skip
def zmpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, [[member, score], ...]] or null array. Source: t_zset.c zmpopGenericCommand()."""
    keys, greatest, count = parse_pop(argv, 1, b"MIN", b"MAX")
    return pop_first(ctx, keys, greatest, count) or NULL_ARRAY


# -- reading -------------------------------------------------------------------------------------------------------


@COMMANDS.read("ZCARD", arity=2, since="1.2.0", flags="fast", keys=_KEY_RO,
               summary="Returns the number of members of a sorted set.")  # fmt: skip
def zcard(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: t_zset.c zcardCommand()."""
    value = ctx.db.typed(argv[1], ZSet)
    return 0 if value is None else len(value)


@COMMANDS.read("ZSCORE", arity=3, since="1.2.0", flags="fast", keys=_KEY_ACCESS,
               summary="Returns the score of a member.")  # fmt: skip
def zscore(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: double or null. Source: t_zset.c zscoreCommand()."""
    value = ctx.db.typed(argv[1], ZSet)
    return None if value is None else value.scores.get(argv[2])


@COMMANDS.read("ZMSCORE", arity=-3, since="6.2.0", flags="fast", keys=_KEY_ACCESS,
               summary="Returns the scores of members.", complexity="O(N), N the number of members named")  # fmt: skip
def zmscore(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of doubles or nulls. Source: t_zset.c zmscoreCommand()."""
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return [None] * (len(argv) - 2)
    scores = value.scores
    return [scores.get(member) for member in argv[2:]]


def _rank(ctx: ReadContext, argv: Argv, name: str, reverse: bool) -> Reply:
    if len(argv) > 4:
        raise wrong_arity(name)
    with_score = len(argv) == 4
    if with_score and argv[3].upper() != b"WITHSCORE":
        raise CommandError(SYNTAX)
    value = ctx.db.typed(argv[1], ZSet)
    rank = -1 if value is None else value.rank(argv[2])
    if value is None or rank < 0:
        return NULL_ARRAY if with_score else None
    if reverse:
        rank = len(value) - 1 - rank
    return [rank, value.scores[argv[2]]] if with_score else rank


@COMMANDS.read("ZRANK", arity=-3, since="2.0.0", flags="fast", keys=_KEY_ACCESS,
               summary="Returns how many members come before one, by ascending score.",
               complexity="O(log(N)), N the size of the sorted set")  # fmt: skip
def zrank(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer or null; with WITHSCORE [rank, score] or null array. Source: t_zset.c zrankGenericCommand()."""
    return _rank(ctx, argv, "zrank", reverse=False)


@COMMANDS.read("ZREVRANK", arity=-3, since="2.0.0", flags="fast", keys=_KEY_ACCESS,
               summary="Returns how many members come before one, by descending score.",
               complexity="O(log(N)), N the size of the sorted set")  # fmt: skip
def zrevrank(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer or null; with WITHSCORE [rank, score] or null array. Source: t_zset.c zrankGenericCommand()."""
    return _rank(ctx, argv, "zrevrank", reverse=True)


@COMMANDS.read("ZRANDMEMBER", arity=-2, since="6.2.0", keys=_KEY_ACCESS, tips=_BY_CHANCE,
               summary="Returns members of a sorted set chosen at random.",
               complexity="O(N), N the number of members of the sorted set or returned, whichever is more")  # fmt: skip
def zrandmember(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk or null; with a count array, or pairs. Source: t_zset.c zrandmemberCommand()."""
    if len(argv) == 2:
        value = ctx.db.typed(argv[1], ZSet)
        if value is None:
            return None
        position = ctx.below(len(value))
        return value.slice(position, position + 1)[0][1]
    count, with_scores = parse_sample_count(argv, b"WITHSCORES")
    value = ctx.db.typed(argv[1], ZSet)
    if value is None or count == 0:
        return []
    size = len(value)
    pairs = value.slice(0, size)
    if count < 0:
        pairs = [pairs[ctx.below(size)] for _ in range(-count)]
    elif count < size:
        pairs = [pairs[i] for i in sample(ctx.below, size, count)]
    return Pairs(flat_pairs(pairs)) if with_scores else [pair[1] for pair in pairs]


@COMMANDS.read("ZSCAN", arity=-3, since="2.8.0", keys=_KEY_ACCESS, tips=_BY_CHANCE,
               summary="Iterates over the members and scores of a sorted set.",
               complexity="O(1) per call, O(N) for a whole pass")  # fmt: skip
def zscan(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: next cursor and a flat array, scores as text under both protocols. Source: t_zset.c zscanCommand()."""
    cursor = parse_cursor(argv[2])
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return [b"0", []]
    options = parse_options(argv, 3, b"zset")
    following, members = scan_mapping(value.scores, len(value), cursor, options.count)
    flat: list[Reply] = []
    for member in members:
        if options.wants(member):
            flat.append(member)
            if not options.bare:
                score = value.scores[member]
                # A listpack holds the text, a skiplist the number. Source: db.c scanCallback(), util.c ld2string().
                flat.append(format_double(score) if value.packed else b"%.17g" % score)
    return [b"%d" % following, flat]
