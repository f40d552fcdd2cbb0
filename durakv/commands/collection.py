"""What the commands on hashes, lists, sets and sorted sets share: windows, samples, timeouts, and keys that empty.

Rule: an empty collection is never left under a key; every command that removes elements ends in after_removal().
It knows no value class: sizes and keys are enough. [compiled]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from durakv.commands import long_double
from durakv.commands.args import INT64_MAX, parse_count
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_NEW, WriteContext
from durakv.commands.spec import Argv
from durakv.resp.errors import (
    COUNT_NOT_POSITIVE,
    NUMKEYS_NOT_POSITIVE,
    OUT_OF_RANGE_POSITIVE,
    SYNTAX,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_FLOAT,
    TIMEOUT_OUT_OF_RANGE,
    VALUE_OUT_OF_RANGE,
    CommandError,
)

# SRANDMEMBER, HRANDFIELD and ZRANDMEMBER build their reply in memory; upstream streams it until the client is cut off.
REPEATS_MAX: Final = 1 << 22


def parse_positive(text: bytes, error: str = OUT_OF_RANGE_POSITIVE) -> int:
    """An integer >= 0. Raises CommandError ``error``. Source: object.c getPositiveLongFromObjectOrReply()."""
    return parse_count(text, 0, INT64_MAX, error)


def parse_sample_count(argv: Argv, word: bytes) -> tuple[int, bool]:
    """(count, whether ``word`` follows) of the random readers; negative counts, down to -REPEATS_MAX, allow repeats.

    Raises CommandError. Source: t_hash.c hrandfieldCommand().
    """
    count = parse_count(argv[2], -INT64_MAX, INT64_MAX)
    if len(argv) > 4 or (len(argv) == 4 and argv[3].upper() != word):
        raise CommandError(SYNTAX)
    if count < -REPEATS_MAX or (len(argv) == 4 and count > INT64_MAX // 2):
        raise CommandError(VALUE_OUT_OF_RANGE)
    return count, len(argv) == 4


def parse_timeout(text: bytes, now_ms: int) -> int:
    """Seconds, fractions allowed, as ms rounded up; 0 waits for ever. Raises CommandError.

    Source: timeout.c getTimeoutFromObjectOrReply().
    """
    number = long_double.parse(text)
    if number is None:
        raise CommandError(TIMEOUT_NOT_FLOAT)
    if number.infinite:
        timeout_ms = math.copysign(math.inf, number.significand)
    else:
        try:
            timeout_ms = math.ldexp(number.significand, number.exponent) * 1000.0
        except OverflowError:
            timeout_ms = math.copysign(math.inf, number.significand)
    if timeout_ms >= INT64_MAX:
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    if timeout_ms <= -1.0:
        raise CommandError(TIMEOUT_NEGATIVE)
    # Too small for a double is not nothing: it waits a millisecond, not for ever.
    whole_ms = 1 if timeout_ms == 0.0 and number.significand > 0.0 else math.ceil(timeout_ms)
    if whole_ms > INT64_MAX - now_ms:
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    return whole_ms


def parse_pop(argv: Argv, numkeys_at: int, first: bytes, last: bytes) -> tuple[list[bytes], bool, int]:
    """(keys, whether ``last`` was asked for, count) of LMPOP, ZMPOP and their blocking forms.

    ``first`` and ``last`` are LEFT and RIGHT or MIN and MAX. Raises CommandError.
    Source: t_list.c lmpopGenericCommand(), t_zset.c zmpopGenericCommand().
    """
    numkeys = parse_count(argv[numkeys_at], 1, INT64_MAX, NUMKEYS_NOT_POSITIVE)
    where_at = numkeys_at + numkeys + 1
    if where_at >= len(argv):
        raise CommandError(SYNTAX)
    where = argv[where_at].upper()
    if where not in (first, last):
        raise CommandError(SYNTAX)
    count = -1
    i = where_at + 1
    while i < len(argv):
        if count != -1 or argv[i].upper() != b"COUNT" or i + 1 >= len(argv):
            raise CommandError(SYNTAX)
        count = parse_count(argv[i + 1], 1, INT64_MAX, COUNT_NOT_POSITIVE)
        i += 2
    return argv[numkeys_at + 1 : where_at], where == last, 1 if count == -1 else count


def window(start: int, stop: int, size: int) -> tuple[int, int]:
    """Positions of LRANGE and ZRANGE, negative from the end, as [start, stop) within ``size``; equal when empty."""
    if start < 0:
        start = max(start + size, 0)
    if stop < 0:
        stop += size
    if start > stop or start >= size:
        return 0, 0
    return start, min(stop, size - 1) + 1


def sample(below: Callable[[int], int], size: int, count: int) -> list[int]:
    """``count`` <= ``size`` different positions in [0, size), each drawn once: a shuffle that stops early."""
    moved: dict[int, int] = {}
    out: list[int] = []
    for i in range(count):
        j = i + below(size - i)
        out.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return out


def created(ctx: WriteContext, key: bytes) -> None:
    """Tell listeners that ``key`` did not exist before. Source: db.c dbAdd()."""
    if ctx.notify_mask:
        ctx.notify(NOTIFY_NEW, b"new", key)


def after_removal(ctx: WriteContext, key: bytes, size: int, event_class: int, event: bytes) -> None:
    """Elements left the collection at ``key`` and ``size`` remain: announce it, and delete the key at 0."""
    if ctx.notify_mask:
        ctx.notify(event_class, event, key)
    if size:
        ctx.db.touched(key)
        return
    ctx.db.delete(key)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_GENERIC, b"del", key)


def store_result(ctx: WriteContext, key: bytes, value: object, size: int, event_class: int, event: bytes) -> int:
    """Replace whatever is at ``key`` by a computed collection, or delete the key when it is empty; the size."""
    if size == 0:
        if ctx.db.delete(key) and ctx.notify_mask:
            ctx.notify(NOTIFY_GENERIC, b"del", key)
        return 0
    if ctx.notify_mask and ctx.db.get(key) is None:
        created(ctx, key)
    ctx.db.put(key, value)
    if ctx.notify_mask:
        ctx.notify(event_class, event, key)
    return size
