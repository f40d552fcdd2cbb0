"""Random values of every type, made by their own mutators, and a comparison that misses nothing a command could see."""

from __future__ import annotations

from array import array
from collections import deque
from random import Random

from durakv.keyspace import journal
from durakv.keyspace.digest import canonical_value
from durakv.keyspace.values.field_deadlines import FieldDeadlines
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import Consumer, Group, IdSet, Pending
from durakv.keyspace.values.streamnode import Node
from durakv.keyspace.values.zset import ZSet

KINDS = ("string", "grown", "hash", "list", "set", "zset", "stream")


def text(rng: Random) -> bytes:
    """Mostly short, sometimes a number, sometimes longer than a row's key can be."""
    choice = rng.random()
    if choice < 0.3:
        return b"%d" % rng.randrange(-5, 300)
    if choice < 0.9:
        return rng.randbytes(rng.randrange(0, 12))
    return rng.randbytes(rng.choice((64, 65, 255, 256, 399, 400, 401, 700)))


def a_string(rng: Random, size: int) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 20, size, 65536, 65537, 3 * 32768, 100_000)))


def a_hash(rng: Random, size: int) -> Hash:
    value = Hash()
    value.set(b"first", b"1")
    for _ in range(size):
        value.set(text(rng), text(rng))
        if rng.random() < 0.2:
            value.delete(rng.choice(list(value.fields)))
    if rng.random() < 0.5:
        for field in list(value.fields):
            if rng.random() < 0.3:
                value.set_deadline(field, rng.randrange(1, 1 << 41))
            elif rng.random() < 0.1:
                value.clear_deadline(field)
    value.set(b"last", b"2")
    return value


def a_list(rng: Random, size: int) -> ListValue:
    value = ListValue()
    value.push_right([b"x"])
    for _ in range(size):
        if rng.random() < 0.5:
            value.push_left([text(rng)])
        else:
            value.push_right([text(rng), text(rng)])
        if rng.random() < 0.2 and len(value) > 1:
            value.pop_left()
    return value


def a_set(rng: Random, size: int) -> SetValue:
    value = SetValue()
    numbers = rng.random() < 0.3
    for _ in range(size + 1):
        value.add(b"%d" % rng.randrange(10_000) if numbers else text(rng))
        if rng.random() < 0.2 and len(value) > 1:
            value.pop_at(rng.randrange(len(value)))
    return value


def a_zset(rng: Random, size: int) -> ZSet:
    value = ZSet()
    value.set(b"x", float("-inf"))
    for _ in range(size):
        value.set(text(rng), rng.choice((0.0, -0.0, 1.5, rng.uniform(-1e9, 1e9), float("inf"), 5e-324)))
        if rng.random() < 0.2 and len(value) > 1:
            value.remove(rng.choice(list(value.scores)))
    return value


def a_stream(rng: Random, size: int) -> Stream:
    value = Stream()
    ids = []
    at = rng.randrange(1 << 60)
    for _ in range(size):
        at += rng.randrange(1, 1 << 66)
        same = rng.random() < 0.6
        names = [b"f", b"g"] if same else [text(rng) for _ in range(rng.randrange(1, 4))]
        value.append(at, [part for name in names for part in (name, text(rng))])
        ids.append(at)
    for entry_id in ids:
        if rng.random() < 0.2:
            value.delete(entry_id)
    if ids and rng.random() < 0.3:
        value.trim_length(rng.randrange(len(ids) + 1), rng.random() < 0.5, 0)
    if ids and rng.random() < 0.2:
        value.set_head(value.last_id + 7, value.max_deleted_id, value.entries_added + 3)
    for number in range(rng.choice((0, 0, 1, 3, 6))):
        name = b"group%d" % number if rng.random() < 0.8 else text(rng) + b"%d" % number
        value.create_group(name, rng.choice([0, *ids]), rng.choice((-1, 0, 5)))
        group = value.groups[name]
        consumers = [group.create(b"c%d" % i, rng.randrange(1 << 41)) for i in range(rng.randrange(4))]
        for consumer in consumers:
            if rng.random() < 0.5:
                group.active(consumer, rng.randrange(1 << 41))
        for entry_id in ids:
            if consumers and rng.random() < 0.4:
                group.assign(entry_id, rng.choice(consumers), rng.randrange(1 << 41), rng.randrange(1, 9))
        for entry_id in list(group.pending):
            if rng.random() < 0.2:
                group.drop(entry_id)
        if consumers and rng.random() < 0.2:
            group.delete(consumers[0])
    return value


def a_value(rng: Random, kind: str | None = None, size: int | None = None) -> object:
    """A value of that kind, or any, of about that many elements; nothing of it is left in the journal."""
    kind = kind or rng.choice(KINDS)
    size = rng.choice((0, 1, 5, 31, 40, 70, 150)) if size is None else size
    if kind == "string":
        made: object = a_string(rng, size)
    elif kind == "grown":
        made = bytearray(a_string(rng, size))
    else:
        makers = {"hash": a_hash, "list": a_list, "set": a_set, "zset": a_zset, "stream": a_stream}
        made = makers[kind](rng, size)
    journal.steps.clear()
    return made


def facts(value: object) -> object:
    """Everything about a value that a command or a later change could depend on."""
    if isinstance(value, Hash):
        return ("hash", list(value.fields.items()), value.packed, facts(value.deadlines))
    if isinstance(value, FieldDeadlines):
        return (sorted(value.at_ms.items()), value.next_ms(), value.due(1 << 60))
    if isinstance(value, ListValue):
        assert isinstance(value.items, deque)
        return ("list", list(value.items), value.size, value.quick)
    if isinstance(value, SetValue):
        assert value.positions == {member: i for i, member in enumerate(value.members)}
        return ("set", value.members, value.form)
    if isinstance(value, ZSet):
        blocks = [
            list(zip(orders, names, strict=True)) for orders, names in zip(value.orders, value.names, strict=True)
        ]
        pairs = [pair for block in blocks for pair in block]
        assert pairs == sorted(pairs) and {m: s for s, m in pairs} == value.scores
        assert list(zip(value.last_scores, value.last_names, strict=True)) == [block[-1] for block in blocks]
        assert all(value.rank(pairs[i][1]) == i for i in range(0, len(pairs), 7))
        return ("zset", [(m, repr(s)) for m, s in value.scores.items()], value.packed)
    if isinstance(value, Stream):
        return (
            "stream", [facts(node) for node in value.nodes], value.first_ids, value.length, value.last_id,
            value.max_deleted_id, value.entries_added, {name: facts(group) for name, group in value.groups.items()},
        )  # fmt: skip
    if isinstance(value, Node):
        for numbers in (value.ms, value.seq, value.ends):
            assert isinstance(numbers, array)
        return (
            value.first_id, value.fields, value.fields_size, list(value.ms), list(value.seq), list(value.ends),
            bytes(value.flags), bytes(value.data), value.size, value.live, value.dead, value.listpack_size(),
            value.ends.typecode, type(value.flags), type(value.data),
        )  # fmt: skip
    if isinstance(value, Group):
        return (
            value.last_id, value.entries_read, {n: facts(c) for n, c in value.consumers.items()},
            {i: facts(p) for i, p in value.pending.items()}, facts(value.order),
        )  # fmt: skip
    if isinstance(value, Consumer):
        return (value.name, value.seen_ms, value.active_ms, facts(value.pending))
    if isinstance(value, Pending):
        return (value.owner, value.delivered_ms, value.count)
    if isinstance(value, IdSet):
        assert value.firsts == [block[0] for block in value.blocks]
        return (value.starting(0, value.size), value.size)
    return (type(value), value)


def same(one: object, two: object) -> None:
    """Assert that nothing tells the two values apart."""
    assert facts(one) == facts(two)
    if one is not None:
        assert canonical_value(one) == canonical_value(two)
        assert type(one) in (bytes, bytearray) or one.encoding() == two.encoding()  # type: ignore[attr-defined]
