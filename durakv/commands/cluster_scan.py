"""CLUSTERSCAN: a walk through all slots whose cursor names the slot it stands in.

A cursor is ``0`` or ``<fingerprint>-{<tag>}-<place>``; the tag hashes to the slot, so a cluster client sends each step
to the slot's owner. Places are stable on every node (scan.py), so the fingerprint never changes.
Rule: the only place that knows this form.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

from durakv.commands.context import ReadContext
from durakv.commands.generic_scan import matching
from durakv.commands.local_text import integer
from durakv.commands.scan import INVALID_CURSOR, parse_cursor, parse_options, scan_slots
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.resp.errors import CommandError
from durakv.resp.types import Reply

COMMANDS: Final[Commands] = Commands("cluster")

BAD_SLOT: Final = "ERR Invalid or out of range slot"
_START: Final = b"0"
_FINGERPRINT: Final = b"1"
_LETTERS: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@COMMANDS.read("CLUSTERSCAN", arity=-2, since="9.1.0", flags="touches_arbitrary_keys", keys="NOT_KEY@i1+r0/1/0",
               acl="keyspace", tips="nondeterministic_output request_policy:special response_policy:special",
               complexity="O(1) a call, O(N) a full pass, N the number of keys",
               summary="Walks through the keys of all slots, or of one, some at a time.")  # fmt: skip
def clusterscan(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: [cursor, keys]; cursor ``0`` when the pass is complete. Source: valkey pull requests 2934, 3391."""
    rest, only = _slot_option(argv)
    options = parse_options(rest, 2, b"")
    if argv[1] == _START:
        return [_cursor(_START, 0 if only is None else only, 0), []]
    slot, place = _parse(argv[1])
    if only is not None and only != slot:
        return [_START, []]
    after, keys = scan_slots(ctx.db, place * SLOTS + slot, options.count)
    slot, place = after % SLOTS, after // SLOTS
    if only is not None:
        # A small slot may have brought keys of the slots behind it.
        keys = [key for key in keys if slot_of(key) == only]
        after = after if slot == only else 0
    found = matching(ctx, keys, options)
    return [_START if after == 0 else _cursor(_FINGERPRINT, slot, place), found]


def _slot_option(argv: Argv) -> tuple[Argv, int | None]:
    """The arguments without SLOT, and its number. Raises CommandError."""
    rest = argv[:2]
    only: int | None = None
    i = 2
    while i < len(argv):
        if argv[i].upper() == b"SLOT" and i + 1 < len(argv):
            only = integer(argv[i + 1], BAD_SLOT)
            if not 0 <= only < SLOTS:
                raise CommandError(BAD_SLOT)
        else:
            rest = rest + argv[i : i + 2]
        i += 2
    return rest, only


def _parse(cursor: bytes) -> tuple[int, int]:
    """(slot, place). Raises CommandError."""
    mark, _, rest = cursor.partition(b"-{")
    tag, brace, place = rest.rpartition(b"}-")
    if not mark or not tag or not brace:
        raise CommandError(INVALID_CURSOR)
    return slot_of(tag), parse_cursor(place)


def _cursor(mark: bytes, slot: int, place: int) -> bytes:
    return b"%b-{%b}-%d" % (mark, tag_of(slot), place)


def tag_of(slot: int) -> bytes:
    """The first three letters or digits that hash to ``slot``; some 260 pairs are tried on average."""
    # The low byte of a CRC-16 names the byte that went into its last step; what is left to find are the bits above.
    last = next(n for n in range(256) if (crc_hqx(bytes((n,)), 0) ^ slot) & 0xFF == 0)
    for first in _LETTERS:
        for second in _LETTERS:
            so_far = crc_hqx(bytes((first, second)), 0)
            third = last ^ so_far >> 8
            if third in _LETTERS and crc_hqx(bytes((third,)), so_far) % SLOTS == slot:
                return bytes((first, second, third))
    raise AssertionError(f"no tag of three characters hashes to slot {slot}")
