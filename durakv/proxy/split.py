"""Commands on many keys cut by slot, and their replies put together again. [compiled]

Rule: pure but for the requests it makes. What is split is not atomic: a part may be executed and another refused, and
the reply then says so.
"""

from __future__ import annotations

from typing import Final

from durakv.keyspace.slots import slot_of
from durakv.proxy.plans import Plan
from durakv.proxy.request import Gather, Owner, Request
from durakv.resp import split

_MINUS: Final = 0x2D
_OK: Final = b"+OK\r\n"


def gather(number: int, muted: bool, owner: Owner, plan: Plan, argv: list[bytes]) -> Gather:
    """One request per slot, in the order in which the slots first occur."""
    step = 2 if plan.name == "mset" else 1
    count = (len(argv) - 1) // step
    entry = Gather(number, muted, plan, count)
    by_slot: dict[int, int] = {}
    for place in range(count):
        at = 1 + place * step
        slot = slot_of(argv[at])
        part_at = by_slot.get(slot, -1)
        if part_at < 0:
            part_at = by_slot[slot] = len(entry.parts)
            part = Request(number, muted, owner, [argv[0]], plan, slot)
            part.parent = entry
            entry.parts.append(part)
            entry.places.append([])
        entry.parts[part_at].argv += argv[at : at + step]
        entry.places[part_at].append(place)
    entry.missing = len(entry.parts)
    return entry


def merged(entry: Gather, protocol: int) -> bytes:
    """The one reply of a command whose parts are all answered."""
    failed = _failure(entry)
    if failed:
        return failed
    name = entry.plan.name
    if name == "mset":
        return _OK
    if name == "mget":
        return _array(entry)
    return b":%d\r\n" % sum(int((part.reply or b":0")[1:]) for part in entry.parts)


def _failure(entry: Gather) -> bytes:
    """The first error, one of unknown outcome before others; it says how many parts were executed."""
    failed = b""
    done = 0
    for part in entry.parts:
        reply = part.reply or b""
        if reply[:1] != b"-":
            done += 1
        elif not failed or (reply.startswith(b"-UNKNOWN") and not failed.startswith(b"-UNKNOWN")):
            failed = reply
    if failed and done and entry.plan.row.kind != 0:
        failed = failed.rstrip() + b" (%d of %d parts of this command were executed)\r\n" % (done, len(entry.parts))
    return failed


def _array(entry: Gather) -> bytes:
    values: list[bytes] = [b""] * entry.keys
    for part, places in zip(entry.parts, entry.places, strict=True):
        for place, value in zip(places, split.items(part.reply or b"*0\r\n"), strict=True):
            values[place] = value
    return b"*%d\r\n" % entry.keys + b"".join(values)
