"""Arguments and replies that the stream commands share: ids, intervals, trimming, entries.

An id is one integer, ``ms << 64 | seq``. Rule: an id is accepted exactly when upstream accepts it, odd forms included.
Source: t_stream.c streamGenericParseIDOrReply(), util.c string2ull().
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import parse_int64, to_int64
from durakv.commands.spec import Argv
from durakv.commands.table import shown
from durakv.keyspace.values.stream import ID_MAX, Stream, format_id
from durakv.keyspace.values.streamnode import SEQ_MASK
from durakv.keyspace.values.streampack import signed64
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Reply

# "Given" forms of the id of XADD.
AUTO: Final = 0
AUTO_SEQ: Final = 1
WHOLE: Final = 2

BAD_ID: Final = "ERR Invalid stream ID specified as stream command argument"
BAD_START: Final = "ERR invalid start ID for the interval"
BAD_STOP: Final = "ERR invalid end ID for the interval"
TRIM_TWICE: Final = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
TRIM_MISSING: Final = "ERR syntax error, XTRIM must be called with a trimming strategy"
MAXLEN_NEGATIVE: Final = "ERR The MAXLEN argument must be >= 0."
LIMIT_NEGATIVE: Final = "ERR The LIMIT argument must be >= 0."
LIMIT_ALONE: Final = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
LIMIT_EXACT: Final = "ERR syntax error, LIMIT cannot be used without the special ~ option"

_ID_CHARS: Final = 127
# Fewer digits are surely a 64-bit number.
_SAFE_DIGITS: Final = 19
_BLANKS: Final = b" \t\n\v\f\r"
# Nodes that one approximate trimming may remove unless LIMIT says otherwise.
_TRIM_NODES: Final = 100


# -- ids -----------------------------------------------------------------------------------------------------------


def to_uint64(text: bytes) -> int | None:
    """What upstream reads as an unsigned number: strtoull(), but nothing that is plainly negative."""
    if len(text) < _SAFE_DIGITS and text.isdigit():
        return int(text)
    value = to_int64(text)
    if value is not None:
        return None if value < 0 else value
    digits = text.lstrip(_BLANKS)
    negative = digits[:1] == b"-"
    if digits[:1] in (b"-", b"+"):
        digits = digits[1:]
    if not digits.isdigit():
        return None
    value = int(digits)
    if value > SEQ_MASK:
        return None
    return -value & SEQ_MASK if negative else value


def _to_id(text: bytes, missing_seq: int, strict: bool) -> int | None:
    if len(text) > _ID_CHARS:
        return None
    text = text.partition(b"\0")[0]
    if text == b"-" or text == b"+":
        if strict:
            return None
        return 0 if text == b"-" else ID_MAX
    first, dash, second = text.partition(b"-")
    ms = to_uint64(first)
    seq = to_uint64(second) if dash else missing_seq
    if ms is None or seq is None:
        return None
    return ms << 64 | seq


def to_id(text: bytes) -> int | None:
    """A complete id, or one without its sequence part, which is 0 then; None for anything else."""
    return _to_id(text, 0, strict=True)


def parse_id(text: bytes, *, strict: bool = True) -> int:
    """As to_id(); ``-`` and ``+`` too unless ``strict``. Raises CommandError."""
    entry_id = _to_id(text, 0, strict)
    if entry_id is None:
        raise CommandError(BAD_ID)
    return entry_id


def parse_start(text: bytes) -> int:
    """The least id of an interval: ``-``, an id, or ``(id``. Raises CommandError."""
    exclusive = len(text) > 1 and text[:1] == b"("
    start = _to_id(text[1:] if exclusive else text, 0, exclusive)
    if start is None:
        raise CommandError(BAD_ID)
    if not exclusive:
        return start
    if start == ID_MAX:
        raise CommandError(BAD_START)
    return start + 1


def parse_stop(text: bytes) -> int:
    """The greatest id of an interval: ``+``, an id, or ``(id``. Raises CommandError."""
    exclusive = len(text) > 1 and text[:1] == b"("
    stop = _to_id(text[1:] if exclusive else text, SEQ_MASK, exclusive)
    if stop is None:
        raise CommandError(BAD_ID)
    if not exclusive:
        return stop
    if stop == 0:
        raise CommandError(BAD_STOP)
    return stop - 1


# -- adding and trimming -------------------------------------------------------------------------------------------


class AddOptions:
    """What XADD and XTRIM were asked. ``id_form``: AUTO (``*``), AUTO_SEQ (``ms-*``) or WHOLE.

    ``length_max`` or ``id_min`` is None unless it is how to trim; ``limit`` 0 removes any number of entries.
    """

    __slots__ = (
        "approximate", "create", "entry_id", "fields_at", "id_form", "id_min", "length_max", "limit", "trims",
    )  # fmt: skip

    def __init__(self) -> None:
        self.entry_id = 0
        self.id_form = AUTO
        self.fields_at = 0
        self.create = True
        self.length_max: int | None = None
        self.id_min: int | None = None
        self.approximate = False
        self.limit = 0
        # Whether there is anything to trim by.
        self.trims = False


# XADD key * ..., the common case.
NEXT_ID: Final = AddOptions()
NEXT_ID.fields_at = 3


def parse_add_options(argv: Argv, *, adding: bool) -> AddOptions:
    """The options of XADD (``adding``, up to its id) or XTRIM. Raises CommandError.

    Source: t_stream.c streamParseAddOrTrimArgsOrReply().
    """
    options = AddOptions()
    limit: int | None = None
    i = 2
    n = len(argv)
    while i < n:
        text = argv[i]
        word = text.upper()
        more = i + 1 < n
        if adding and text == b"*":
            break
        if word in (b"MAXLEN", b"MINID") and more:
            i = _parse_trim(options, argv, i)
        elif word == b"LIMIT" and more:
            i += 1
            limit = parse_int64(argv[i])
            if limit < 0:
                raise CommandError(LIMIT_NEGATIVE)
        elif adding and word == b"NOMKSTREAM":
            options.create = False
        elif adding:
            _parse_new_id(options, text)
            break
        else:
            raise CommandError(SYNTAX)
        i += 1
    options.fields_at = i + 1
    if limit and not options.trims:
        raise CommandError(LIMIT_ALONE)
    if not adding and not options.trims:
        raise CommandError(TRIM_MISSING)
    if limit is not None and not options.approximate:
        raise CommandError(LIMIT_EXACT)
    if limit is not None:
        options.limit = limit
    elif options.approximate:
        options.limit = _TRIM_NODES * Stream.node_entries_max
    return options


def _parse_trim(options: AddOptions, argv: Argv, at: int) -> int:
    """MAXLEN or MINID at ``argv[at]``; where its last argument is."""
    if options.trims:
        raise CommandError(TRIM_TWICE)
    options.trims = True
    by_length = argv[at].upper() == b"MAXLEN"
    options.approximate = False
    at += 1
    if at + 1 < len(argv) and argv[at] in (b"~", b"="):
        options.approximate = argv[at] == b"~"
        at += 1
    if by_length:
        options.length_max = parse_int64(argv[at])
        if options.length_max < 0:
            raise CommandError(MAXLEN_NEGATIVE)
    else:
        options.id_min = parse_id(argv[at])
    return at


def _parse_new_id(options: AddOptions, text: bytes) -> None:
    first, _, second = text.partition(b"\0")[0].partition(b"-")
    ms = to_uint64(first)
    if second == b"*" and ms is not None and len(text) <= _ID_CHARS:
        options.entry_id = ms << 64
        options.id_form = AUTO_SEQ
    else:
        options.entry_id = parse_id(text)
        options.id_form = WHOLE


def trim(stream: Stream, options: AddOptions) -> int:
    """Trim as asked; how many entries went."""
    if options.length_max is not None:
        return stream.trim_length(options.length_max, options.approximate, options.limit)
    if options.id_min is not None:
        return stream.trim_below(options.id_min, options.approximate, options.limit)
    return 0


# -- replies -------------------------------------------------------------------------------------------------------


def entry_reply(entry_id: int, flat: list[bytes] | None) -> list[Reply]:
    """[id, [field, value, ...]]; ``flat`` None: [id, null]."""
    return [format_id(entry_id), flat]


def entries_reply(entries: list[tuple[int, list[bytes]]]) -> list[Reply]:
    """[[id, [field, value, ...]], ...]."""
    return [entry_reply(entry_id, flat) for entry_id, flat in entries]


def elapsed(now_ms: int, then_ms: int) -> int:
    """Milliseconds since ``then_ms``, which may be anything a payload held; 64 bits wide, as upstream."""
    return signed64(now_ms - then_ms)


def quoted(text: bytes) -> str:
    """What an error quotes of a key or a group's name: all of it, up to the first NUL."""
    return shown(text, len(text))


def bad_subcommand(argv: Argv) -> CommandError:
    """A subcommand's options make no sense. Source: networking.c addReplySubcommandSyntaxError()."""
    return CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{shown(argv[1])}'. "
        f"Try {quoted(argv[0].upper())} HELP."
    )
