"""Commands on lists that answer at once; the blocking ones are in lists_blocking. [compiled]

Rule: every pop, whoever asks for it, goes through pop_range() or move(), so blocking and plain forms cannot differ.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from durakv.commands.args import INT64_MAX, parse_count, parse_int64
from durakv.commands.collection import after_removal, created, parse_pop, parse_positive, window
from durakv.commands.context import NOTIFY_LIST, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.values.listvalue import ListValue
from durakv.resp.errors import (
    LPOS_COUNT_NEGATIVE,
    LPOS_MAXLEN_NEGATIVE,
    NO_SUCH_KEY,
    OUT_OF_RANGE,
    RANK_ZERO,
    SYNTAX,
    CommandError,
    wrong_arity,
)
from durakv.resp.types import NULL_ARRAY, OK, Reply

COMMANDS: Final = Commands("list")

_KEY_RO: Final = "RO@i1+r0/1/0"
_KEY_ACCESS: Final = "RO|ACCESS@i1+r0/1/0"
_KEY_INSERT: Final = "RW|INSERT@i1+r0/1/0"
_KEY_POP: Final = "RW|ACCESS|DELETE@i1+r0/1/0"
_KEY_DELETE: Final = "RW|DELETE@i1+r0/1/0"
MOVE_KEYS: Final = "RW|ACCESS|DELETE@i1+r0/1/0 RW|INSERT@i2+r0/1/0"


# -- shared with the blocking forms --------------------------------------------------------------------------------


def parse_side(text: bytes) -> bool:
    """True for RIGHT, False for LEFT. Raises CommandError."""
    word = text.upper()
    if word == b"RIGHT":
        return True
    if word == b"LEFT":
        return False
    raise CommandError(SYNTAX)


def pop_one(ctx: WriteContext, key: bytes, value: ListValue, right: bool) -> bytes:
    """Take one element off the list at ``key``. Source: t_list.c listTypePop(), listElementsRemoved()."""
    item = value.pop_right() if right else value.pop_left()
    after_removal(ctx, key, len(value.items), NOTIFY_LIST, b"rpop" if right else b"lpop")
    return item


def pop_range(ctx: WriteContext, key: bytes, value: ListValue, right: bool, count: int) -> list[Reply]:
    """Take up to ``count`` >= 1 elements off one end, in the order they leave."""
    size = len(value)
    count = min(count, size)
    out: list[Reply] = []
    if right:
        out.extend(reversed(value.range(size - count, size - 1)))
        value.trim(0, count)
    else:
        out.extend(value.range(0, count - 1))
        value.trim(count, 0)
    after_removal(ctx, key, size - count, NOTIFY_LIST, b"rpop" if right else b"lpop")
    return out


def move(ctx: WriteContext, argv: Argv, from_right: bool, to_right: bool) -> bytes | None:
    """Move one element from the list argv[1] to the list argv[2]; None when there is none.

    The destination's event comes first, as upstream. Raises CommandError. Source: t_list.c lmoveGenericCommand().
    """
    source_key, key = argv[1], argv[2]
    source = ctx.db.typed(source_key, ListValue)
    if source is None:
        return None
    value = ctx.db.typed(key, ListValue)
    item = source.pop_right() if from_right else source.pop_left()
    if value is None:
        value = ListValue()
        ctx.db.put(key, value)
        created(ctx, key)
    else:
        ctx.db.touched(key)
    if to_right:
        value.push_right([item])
    else:
        value.push_left([item])
    if ctx.notify_mask:
        ctx.notify(NOTIFY_LIST, b"rpush" if to_right else b"lpush", key)
    after_removal(ctx, source_key, len(source), NOTIFY_LIST, b"rpop" if from_right else b"lpop")
    return item


def pop_first(ctx: WriteContext, keys: list[bytes], right: bool, count: int) -> Reply:
    """[key, elements] from the first of ``keys`` that holds a list, else None. Raises CommandError WRONGTYPE."""
    for key in keys:
        value = ctx.db.typed(key, ListValue)
        if value is not None:
            return [key, pop_range(ctx, key, value, right, count)]
    return None


# -- pushing -------------------------------------------------------------------------------------------------------


def _push(ctx: WriteContext, argv: Argv, right: bool, only_existing: bool) -> int:
    key = argv[1]
    value = ctx.db.typed(key, ListValue)
    if value is None:
        if only_existing:
            return 0
        value = ListValue()
        ctx.db.put(key, value)
        created(ctx, key)
    else:
        ctx.db.touched(key)
    if right:
        value.push_right(argv[2:])
    else:
        value.push_left(argv[2:])
    if ctx.notify_mask:
        ctx.notify(NOTIFY_LIST, b"rpush" if right else b"lpush", key)
    return len(value.items)


@COMMANDS.write("LPUSH", arity=-3, since="1.0.0", flags="denyoom fast", keys=_KEY_INSERT,
                summary="Puts elements before the head of a list, creating it if needed.",
                complexity="O(1) per element")  # fmt: skip
def lpush(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new length. Source: t_list.c pushGenericCommand()."""
    return _push(ctx, argv, right=False, only_existing=False)


@COMMANDS.write("RPUSH", arity=-3, since="1.0.0", flags="denyoom fast", keys=_KEY_INSERT,
                summary="Puts elements after the tail of a list, creating it if needed.",
                complexity="O(1) per element")  # fmt: skip
def rpush(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new length. Source: t_list.c pushGenericCommand()."""
    return _push(ctx, argv, right=True, only_existing=False)


@COMMANDS.write("LPUSHX", arity=-3, since="2.2.0", flags="denyoom fast", keys=_KEY_INSERT,
                summary="Puts elements before the head of a list that exists.",
                complexity="O(1) per element")  # fmt: skip
def lpushx(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new length, 0 without a list. Source: t_list.c pushGenericCommand()."""
    return _push(ctx, argv, right=False, only_existing=True)


@COMMANDS.write("RPUSHX", arity=-3, since="2.2.0", flags="denyoom fast", keys=_KEY_INSERT,
                summary="Puts elements after the tail of a list that exists.",
                complexity="O(1) per element")  # fmt: skip
def rpushx(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new length, 0 without a list. Source: t_list.c pushGenericCommand()."""
    return _push(ctx, argv, right=True, only_existing=True)


# -- popping and moving --------------------------------------------------------------------------------------------


def _pop(ctx: WriteContext, argv: Argv, right: bool) -> Reply:
    key = argv[1]
    if len(argv) == 2:
        value = ctx.db.typed(key, ListValue)
        return None if value is None else pop_one(ctx, key, value, right)
    if len(argv) > 3:
        raise wrong_arity("rpop" if right else "lpop")
    count = parse_positive(argv[2])
    value = ctx.db.typed(key, ListValue)
    if value is None:
        return NULL_ARRAY
    return pop_range(ctx, key, value, right, count) if count else []


@COMMANDS.write("LPOP", arity=-2, since="1.0.0", flags="fast", keys=_KEY_POP,
                summary="Removes and returns elements at the head of a list.",
                complexity="O(N), N the number of elements returned")  # fmt: skip
def lpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: bulk or null; with a count array or null array. Source: t_list.c popGenericCommand()."""
    return _pop(ctx, argv, right=False)


@COMMANDS.write("RPOP", arity=-2, since="1.0.0", flags="fast", keys=_KEY_POP,
                summary="Removes and returns elements at the tail of a list.",
                complexity="O(N), N the number of elements returned")  # fmt: skip
def rpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: bulk or null; with a count array or null array. Source: t_list.c popGenericCommand()."""
    return _pop(ctx, argv, right=True)


@COMMANDS.write("LMPOP", arity=-4, since="7.0.0", keys="RW|ACCESS|DELETE@i1+n0/1/1",
                summary="Removes and returns elements of the first of several lists that exists.",
                complexity="O(N+M), N keys and M elements returned")  # fmt: skip
def lmpop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [key, elements] or null array. Source: t_list.c mpopGenericCommand()."""
    keys, right, count = parse_pop(argv, 1, b"LEFT", b"RIGHT")
    return pop_first(ctx, keys, right, count) or NULL_ARRAY


@COMMANDS.write("LMOVE", arity=5, since="6.2.0", flags="denyoom", keys=MOVE_KEYS,
                summary="Moves an element from one end of a list to an end of another, and returns it.")  # fmt: skip
def lmove(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: bulk or null. Source: t_list.c lmoveCommand()."""
    from_right = parse_side(argv[3])
    return move(ctx, argv, from_right, parse_side(argv[4]))


@COMMANDS.write("RPOPLPUSH", arity=3, since="1.2.0", flags="denyoom", keys=MOVE_KEYS,
                summary="Moves the last element of a list to the head of another, and returns it.")  # fmt: skip
def rpoplpush(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: bulk or null. Source: t_list.c rpoplpushCommand()."""
    return move(ctx, argv, from_right=True, to_right=False)


# -- changing in place ---------------------------------------------------------------------------------------------


@COMMANDS.write("LSET", arity=4, since="1.0.0", flags="denyoom", keys="RW|UPDATE@i1+r0/1/0",
                summary="Replaces an element of a list by its position.",
                complexity="O(N), N the distance to the nearer end")  # fmt: skip
def lset(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK. Source: t_list.c lsetCommand()."""
    value = ctx.db.typed(argv[1], ListValue)
    if value is None:
        raise CommandError(NO_SUCH_KEY)
    position = parse_int64(argv[2])
    size = len(value)
    if not -size <= position < size:
        raise CommandError(OUT_OF_RANGE)
    value.set(position, argv[3])
    ctx.db.touched(argv[1])
    if ctx.notify_mask:
        ctx.notify(NOTIFY_LIST, b"lset", argv[1])
    return OK


@COMMANDS.write("LINSERT", arity=5, since="2.2.0", flags="denyoom", keys=_KEY_INSERT,
                summary="Inserts an element before or after another one.",
                complexity="O(N), N the distance of the pivot from the head")  # fmt: skip
def linsert(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new length, 0 without a list, -1 without the pivot. Source: t_list.c linsertCommand()."""
    where = argv[2].upper()
    if where not in (b"BEFORE", b"AFTER"):
        raise CommandError(SYNTAX)
    value = ctx.db.typed(argv[1], ListValue)
    if value is None:
        return 0
    # Upstream makes room before it looks for the pivot.
    value.grow([argv[4]])
    try:
        position = value.items.index(argv[3])
    except ValueError:
        return -1
    value.insert(position + 1 if where == b"AFTER" else position, argv[4])
    ctx.db.touched(argv[1])
    if ctx.notify_mask:
        ctx.notify(NOTIFY_LIST, b"linsert", argv[1])
    return len(value)


@COMMANDS.write("LREM", arity=4, since="1.0.0", keys=_KEY_DELETE,
                summary="Removes elements equal to a given one, and the list with its last element.",
                complexity="O(N), N the length of the list")  # fmt: skip
def lrem(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_list.c lremCommand()."""
    count = parse_count(argv[2], -INT64_MAX, INT64_MAX)
    value = ctx.db.typed(argv[1], ListValue)
    if value is None:
        return 0
    removed = value.remove(count, argv[3])
    if removed:
        after_removal(ctx, argv[1], len(value), NOTIFY_LIST, b"lrem")
    return removed


@COMMANDS.write("LTRIM", arity=4, since="1.0.0", keys=_KEY_DELETE,
                summary="Keeps only a range of a list, and deletes the list if that is empty.",
                complexity="O(N), N the number of elements removed")  # fmt: skip
def ltrim(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK. Source: t_list.c ltrimCommand()."""
    start, stop = parse_int64(argv[2]), parse_int64(argv[3])
    value = ctx.db.typed(argv[1], ListValue)
    if value is None:
        return OK
    size = len(value)
    start, end = window(start, stop, size)
    if start == end:
        start, end = size, size
    if start or end != size:
        value.trim(start, size - end)
    after_removal(ctx, argv[1], len(value), NOTIFY_LIST, b"ltrim")
    return OK


# -- reading -------------------------------------------------------------------------------------------------------


@COMMANDS.read("LLEN", arity=2, since="1.0.0", flags="fast", keys=_KEY_RO, summary="Returns the length of a list.")
def llen(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: t_list.c llenCommand()."""
    value = ctx.db.typed(argv[1], ListValue)
    return 0 if value is None else len(value)


@COMMANDS.read("LINDEX", arity=3, since="1.0.0", keys=_KEY_ACCESS, summary="Returns an element by its position.",
               complexity="O(N), N the distance to the nearer end")  # fmt: skip
def lindex(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk or null. Source: t_list.c lindexCommand()."""
    value = ctx.db.typed(argv[1], ListValue)
    return None if value is None else value.at(parse_int64(argv[2]))


@COMMANDS.read("LRANGE", arity=4, since="1.0.0", keys=_KEY_ACCESS, summary="Returns a range of a list.",
               complexity="O(S+N), S the distance from the nearer end, N elements returned")  # fmt: skip
def lrange(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array. Source: t_list.c lrangeCommand()."""
    start, stop = parse_int64(argv[2]), parse_int64(argv[3])
    value = ctx.db.typed(argv[1], ListValue)
    if value is None:
        return []
    start, end = window(start, stop, len(value))
    return value.range(start, end - 1) if start < end else []


@COMMANDS.read("LPOS", arity=-3, since="6.0.6", keys=_KEY_ACCESS, summary="Returns the positions of equal elements.",
               complexity="O(N), N the length of the list or MAXLEN")  # fmt: skip
def lpos(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer or null; with COUNT an array. Source: t_list.c lposCommand()."""
    rank, count, max_length = _lpos_options(argv)
    value = ctx.db.typed(argv[1], ListValue)
    if value is None:
        return None if count < 0 else []
    size = len(value)
    length = min(max_length or size, size)
    skip = abs(rank) - 1
    wanted = 1 if count < 0 else count
    element = argv[2]
    found: list[Reply] = []
    items = value.items if rank > 0 else reversed(value.items)
    for at, item in enumerate(islice(items, length)):
        if item == element:
            if skip:
                skip -= 1
                continue
            found.append(at if rank > 0 else size - 1 - at)
            if len(found) == wanted:
                break
    if count >= 0:
        return found
    return found[0] if found else None


def _lpos_options(argv: Argv) -> tuple[int, int, int]:
    """(RANK, COUNT or -1, MAXLEN or 0). Raises CommandError."""
    rank, count, max_length = 1, -1, 0
    i = 3
    while i < len(argv):
        word = argv[i].upper()
        if i + 1 >= len(argv):
            raise CommandError(SYNTAX)
        text = argv[i + 1]
        if word == b"RANK":
            rank = parse_count(text, -INT64_MAX, INT64_MAX)
            if rank == 0:
                raise CommandError(RANK_ZERO)
        elif word == b"COUNT":
            count = parse_positive(text, LPOS_COUNT_NEGATIVE)
        elif word == b"MAXLEN":
            max_length = parse_positive(text, LPOS_MAXLEN_NEGATIVE)
        else:
            raise CommandError(SYNTAX)
        i += 2
    return rank, count, max_length
