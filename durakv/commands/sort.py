"""SORT and SORT_RO: elements of a list, set or sorted set, ordered by themselves or by what other keys hold. [compiled]

Rule: the order never depends on the machine: bytes are compared as bytes, never by locale, and elements whose keys
are equal keep a defined order.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import parse_int64, to_double
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_LIST, NOTIFY_NEW, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.keyspace import Db
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet
from durakv.resp.errors import SYNTAX, WRONGTYPE, CommandError
from durakv.resp.types import Reply

COMMANDS: Final = Commands("generic")

NOT_SCORES: Final = "ERR One or more scores can't be converted into double"
_BLANKS: Final = b" \t\n\v\f\r"
_ACL: Final = "set sortedset list dangerous"
_COMPLEXITY: Final = "O(N+M*log(M)), N the number of elements, M of returned ones"


class SortOptions:
    """What was asked. ``gets`` are patterns; ``by`` None sorts by the elements themselves.

    ``unsorted``: some BY had no ``*``, so nothing is sorted, whatever other BY there is.
    """

    __slots__ = ("alpha", "by", "count", "desc", "gets", "start", "store", "unsorted")

    def __init__(self) -> None:
        self.desc = False
        self.alpha = False
        self.start = 0
        self.count = -1
        self.by: bytes | None = None
        self.unsorted = False
        self.gets: list[bytes] = []
        self.store: bytes | None = None


def parse_options(argv: Argv, *, may_store: bool) -> SortOptions:
    """Raises CommandError. Source: sort.c sortCommandGeneric()."""
    options = SortOptions()
    n = len(argv)
    i = 2
    while i < n:
        word = argv[i].upper()
        left = n - i - 1
        if word == b"ASC":
            options.desc = False
        elif word == b"DESC":
            options.desc = True
        elif word == b"ALPHA":
            options.alpha = True
        elif word == b"LIMIT" and left >= 2:
            options.start = parse_int64(argv[i + 1])
            options.count = parse_int64(argv[i + 2])
            i += 2
        elif word == b"STORE" and left >= 1 and may_store:
            options.store = argv[i + 1]
            i += 1
        elif word == b"BY" and left >= 1:
            options.by = argv[i + 1]
            if b"*" not in argv[i + 1]:
                options.unsorted = True
            i += 1
        elif word == b"GET" and left >= 1:
            options.gets.append(argv[i + 1])
            i += 1
        else:
            raise CommandError(SYNTAX)
        i += 1
    return options


def store_position(argv: Argv) -> list[int]:
    """Indexes of the source and, when given, of the last STORE target. Source: db.c sortGetKeys()."""
    positions = [1]
    target = 0
    i = 2
    while i < len(argv):
        word = argv[i].upper()
        if word == b"LIMIT":
            i += 2
        elif word in (b"GET", b"BY"):
            i += 1
        elif word == b"STORE" and i + 1 < len(argv):
            target = i + 1
        i += 1
    if target:
        positions.append(target)
    return positions


def source_position(argv: Argv) -> list[int]:
    """SORT_RO names one key itself; those it reaches by patterns are not known from its arguments."""
    return [1]


def referenced(db: Db, pattern: bytes, element: bytes) -> bytes | None:
    """The string (or hash field, after ``->``) at ``pattern`` with its first * replaced; ``#`` is the element itself.

    Source: sort.c lookupKeyByPattern().
    """
    if pattern == b"#":
        return element
    star = pattern.find(b"*")
    if star < 0:
        return None
    arrow = pattern.find(b"->", star + 1)
    field: bytes | None = None
    end = len(pattern)
    if arrow >= 0 and arrow + 2 < end:
        field = pattern[arrow + 2 :]
        end = arrow
    value = db.get(pattern[:star] + element + pattern[star + 1 : end])
    if field is not None:
        return value.get(field) if isinstance(value, Hash) else None
    if type(value) is bytes:
        return value
    if type(value) is bytearray:
        return bytes(value)
    return None


def _elements(value: object, options: SortOptions, unsorted: bool) -> list[bytes]:
    """The elements in their own order, reversed already when nothing else will order them."""
    if value is None:
        return []
    if isinstance(value, ListValue):
        out = list(value.items)
    elif isinstance(value, ZSet):
        out = [member for _, member in value.slice(0, len(value))]
    elif isinstance(value, SetValue):
        return list(value.members)
    else:
        raise CommandError(WRONGTYPE)
    if unsorted and options.desc:
        out.reverse()
    return out


def _by_score(db: Db, elements: list[bytes], options: SortOptions) -> list[bytes]:
    by = options.by
    scored: list[tuple[float, bytes]] = []
    for element in elements:
        text = element if by is None else referenced(db, by, element)
        score = 0.0
        # As strtod() does, a text ends at a NUL, an empty one reads as 0 and leading blanks are skipped.
        text = text.partition(b"\0")[0] if text else text
        if text:
            number = to_double(text.lstrip(_BLANKS))
            if number is None:
                raise CommandError(NOT_SCORES)
            score = number
        scored.append((score, element))
    scored.sort(reverse=options.desc)
    return [element for _, element in scored]


def _by_text(db: Db, elements: list[bytes], options: SortOptions) -> list[bytes]:
    by = options.by
    if by is None:
        return sorted(elements, reverse=options.desc)
    keyed: list[tuple[bool, bytes, int]] = []
    for i, element in enumerate(elements):
        text = referenced(db, by, element)
        # An absent text comes before any present one.
        keyed.append((text is not None, text or b"", -i if options.desc else i))
    keyed.sort(reverse=options.desc)
    return [elements[abs(i)] for _, _, i in keyed]


def _sorted(db: Db, key: bytes, options: SortOptions) -> list[bytes]:
    """The elements asked for, in order, LIMIT applied. Raises CommandError."""
    value = db.get(key)
    unsorted = options.unsorted
    if unsorted and isinstance(value, SetValue) and options.store is not None:
        # A set has no order of its own worth keeping: what is stored is ordered by bytes.
        unsorted = False
        options.alpha = True
        options.by = None
    elements = _elements(value, options, unsorted)
    if not unsorted:
        elements = _by_text(db, elements, options) if options.alpha else _by_score(db, elements, options)
    start = max(options.start, 0)
    if options.count < 0:
        return elements[start:]
    return elements[start : start + options.count]


@COMMANDS.write("SORT", arity=-2, since="1.0.0", flags="denyoom", acl=_ACL, complexity=_COMPLEXITY,
                keys="RO|ACCESS@i1+r0/1/0 RO|ACCESS@?+? OW|UPDATE@?+?", key_positions=store_position,
                summary="Sorts the elements of a list, set or sorted set, and may store the result.")  # fmt: skip
def sort(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: array, or with STORE the length of the stored list. Source: sort.c sortCommandGeneric()."""
    options = parse_options(argv, may_store=True)
    db = ctx.db
    elements = _sorted(db, argv[1], options)
    if options.store is None:
        return _shown(db, elements, options)
    stored = elements
    if options.gets:
        stored = [referenced(db, pattern, element) or b"" for element in elements for pattern in options.gets]
    target = options.store
    if not stored:
        if db.delete(target):
            ctx.notify(NOTIFY_GENERIC, b"del", target)
        return 0
    value = ListValue()
    value.push_right(stored)
    if db.get(target) is None:
        ctx.notify(NOTIFY_NEW, b"new", target)
    db.put(target, value)
    ctx.notify(NOTIFY_LIST, b"sortstore", target)
    return len(stored)


@COMMANDS.read("SORT_RO", arity=-2, since="7.0.0", acl=_ACL, complexity=_COMPLEXITY,
               keys="RO|ACCESS@i1+r0/1/0 RO|ACCESS@?+?", key_positions=source_position,
               summary="Sorts the elements of a list, set or sorted set.")  # fmt: skip
def sort_ro(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array. Source: sort.c sortroCommand()."""
    options = parse_options(argv, may_store=False)
    return _shown(ctx.db, _sorted(ctx.db, argv[1], options), options)


def _shown(db: Db, elements: list[bytes], options: SortOptions) -> list[object]:
    if not options.gets:
        return list(elements)
    return [referenced(db, pattern, element) for element in elements for pattern in options.gets]
