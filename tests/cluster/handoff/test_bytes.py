"""Items and messages: what is written is read, and nothing else is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.cluster.handoff import entries, messages
from durakv.cluster.handoff.entries import Op, decode, ops_of, packed, parse_runs, put_op, runs_bytes, unpacked
from durakv.cluster.handoff.messages import Message, of_bytes

MID = b"0123456789abcdef" * 2 + b"01234567"
RUNS = ((0, 4, 7), (6, 6, 0), (16383, 16383, 9))
DIGEST = bytes(range(16))
CLUSTER = b"some-cluster"


def some_parts():
    out = []
    for op in (
        Op(entries.PUT, 1, b"k", 55, b"\x00v"),
        Op(entries.PUT, 0, b"", -1, b""),
        Op(entries.DELETE, 3, b"d"),
        Op(entries.WIPE, 2),
    ):
        put_op(out, op)
    return out


def some_ops():
    return b"".join(some_parts())


ITEMS = [
    (entries.export_begin(MID, 3, RUNS), {"peer": 3, "runs": RUNS}),
    (entries.fence(MID, (4, 5)), {"session": (4, 5)}),
    (entries.unfence(MID, b"why"), {"reason": b"why"}),
    (entries.release(MID), {}),
    (entries.export_cancel(MID, b""), {"reason": b""}),
    (entries.force_abort(MID), {}),
    (entries.import_begin(MID, 1, 77, (4, 5), RUNS), {"peer": 1, "order": 77, "session": (4, 5), "runs": RUNS}),
    (entries.import_batch(MID, (4, 5), 6, some_ops()), {"session": (4, 5), "seq": 6, "ops": some_ops()}),
    (
        entries.activate(MID, (4, 5), 90, 91, 92, DIGEST, DIGEST[::-1]),
        {"session": (4, 5), "f_index": 90, "time_ms": 91, "seq": 92, "digest": DIGEST, "counts": DIGEST[::-1]},
    ),
    (entries.abort(MID, 1, 77, RUNS, b"x" * 600), {"peer": 1, "order": 77, "runs": RUNS, "reason": b"x" * 512}),
    (entries.import_forget(MID), {}),
    (entries.yield_slots(MID), {}),
]


@pytest.mark.parametrize(("argv", "facts"), ITEMS, ids=lambda value: value[0].decode() if type(value) is list else "")
def test_items_are_read_as_they_were_written(argv, facts):
    item = decode(argv)
    assert (item.verb, item.mid) == (argv[0], MID)
    for name, value in facts.items():
        assert getattr(item, name) == value


@pytest.mark.parametrize("argv", [argv for argv, _ in ITEMS], ids=lambda argv: argv[0].decode())
def test_items_of_another_length_or_id_are_refused(argv):
    with pytest.raises(ValueError):
        decode([argv[0], MID[:-1], *argv[2:]])
    with pytest.raises(ValueError):
        decode([argv[0], MID.upper(), *argv[2:]])
    with pytest.raises(ValueError):
        decode([*argv, b"1"])
    with pytest.raises(ValueError):
        decode(argv[: len(argv) - 1])


@pytest.mark.parametrize("bad", [b"", b"-1", b"+1", b"01", b"1.0", b" 1", b"9" * 19, b"9" * 30, b"a"])
def test_numbers_are_canonical_and_bounded(bad):
    with pytest.raises(ValueError):
        decode([entries.FENCE, MID, bad, b"1"])


@pytest.mark.parametrize(
    "bad",
    [b"", b"1", b"1-2", b"2-1:0", b"0-16384:1", b"0-1:1,1-2:1", b"5-6:1,1-2:1", b"0-1:x", b"0-1:1,", b"0-1:1;3-4:1"],
)
def test_runs_are_ascending_apart_and_in_range(bad):
    with pytest.raises(ValueError):
        parse_runs(bad)
    assert parse_runs(runs_bytes(RUNS)) == RUNS


def test_operations_are_read_as_they_were_written():
    made = ops_of(some_ops(), 4)
    assert [(op.kind, op.db, op.key, op.at_ms, op.payload) for op in made] == [
        (b"P", 1, b"k", 55, b"\x00v"), (b"P", 0, b"", -1, b""), (b"D", 3, b"d", -1, b""), (b"W", 2, b"", -1, b""),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no database 3"):
        ops_of(some_ops(), 3)


def test_operations_that_are_cut_short_are_refused():
    whole = some_ops()
    ends = {len(b"".join(parts)) for parts in ([], some_parts()[:3], some_parts()[:6], some_parts()[:8], some_parts())}
    for size in range(len(whole)):
        if size in ends:
            assert len(ops_of(whole[:size], 4)) < 4
        else:
            with pytest.raises(ValueError, match="cut short"):
                ops_of(whole[:size], 4)
    with pytest.raises(ValueError, match="no operation"):
        ops_of(whole + b"X", 4)
    with pytest.raises(ValueError, match="holds nothing"):
        decode(entries.import_batch(MID, (4, 5), 6, b""))


@given(st.lists(st.binary(max_size=20), max_size=6), st.binary(max_size=60))
def test_packed_parts_come_back_and_other_bytes_are_refused(parts, noise):
    assert unpacked(packed(parts)) == parts
    try:
        assert packed(unpacked(noise)) == noise
    except ValueError:
        with pytest.raises(ValueError):
            unpacked(noise + b"\x01")


# -- messages ---------------------------------------------------------------------------------------------------------


def filled(kind):
    message = Message(kind, MID)
    message.session, message.order, message.runs, message.seq = (8, 9), 77, RUNS, 10
    message.estimate_bytes, message.ops = 1 << 40, some_ops()
    message.f_index, message.time_ms, message.digest, message.counts = 11, 12, DIGEST, DIGEST[::-1]
    message.reason, message.result, message.status = b"why", 2, 1
    return message


FIELDS = {
    messages.PREPARE: ("session", "order", "runs", "estimate_bytes"),
    messages.BATCH: ("session", "seq", "ops"),
    messages.DIGEST: ("session", "f_index", "time_ms", "seq", "digest", "counts"),
    messages.RESOLVE: ("order", "runs", "reason"),
    messages.STATUS: ("status",),
    messages.ACK: ("session", "seq"),
    messages.REFUSED: ("session", "reason", "status"),
    messages.DECIDED: ("result", "reason"),
    messages.QUERY: ("order", "runs"),
}


@pytest.mark.parametrize("kind", FIELDS, ids=bytes.decode)
def test_messages_are_read_as_they_were_written(kind):
    message = filled(kind)
    sender, read = of_bytes(message.to_bytes(CLUSTER, 1, 2), CLUSTER, 2)
    assert (sender, read.kind, read.mid) == (1, kind, MID)
    for name in ("kind", "mid", *dict.fromkeys(name for names in FIELDS.values() for name in names)):
        fresh = Message(kind, MID)
        wanted = getattr(message if name in FIELDS[kind] else fresh, name)
        assert getattr(read, name) == wanted, name


def test_messages_of_others_are_refused():
    blob = filled(messages.DIGEST).to_bytes(CLUSTER, 1, 2)
    with pytest.raises(ValueError, match="not this one"):
        of_bytes(blob, b"other", 2)
    with pytest.raises(ValueError, match="addressed to group 2, not 3"):
        of_bytes(blob, CLUSTER, 3)
    with pytest.raises(ValueError, match="addressed"):
        of_bytes(filled(messages.ACK).to_bytes(CLUSTER, 2, 2), CLUSTER, 2)
    with pytest.raises(ValueError, match="upgrade both"):
        of_bytes(packed([b"H1", *unpacked(blob)[1:]]), CLUSTER, 2)
    with pytest.raises(ValueError, match="no handoff message"):
        of_bytes(packed([*unpacked(blob), b"more"]), CLUSTER, 2)
    with pytest.raises(ValueError, match="no handoff message"):
        of_bytes(packed([*unpacked(blob)[:5], b"surprise"]), CLUSTER, 2)
    parts = unpacked(filled(messages.DECIDED).to_bytes(CLUSTER, 1, 2))
    with pytest.raises(ValueError, match="too long"):
        of_bytes(packed([*parts[:-1], b"x" * 513]), CLUSTER, 2)


@settings(max_examples=300)
@given(st.sampled_from(list(FIELDS)), st.data())
def test_mangled_messages_are_refused_or_read_as_something_valid(kind, data):
    blob = bytearray(filled(kind).to_bytes(CLUSTER, 1, 2))
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del blob[data.draw(st.integers(0, len(blob))) :]
    try:
        sender, read = of_bytes(bytes(blob), CLUSTER, 2)
    except ValueError:
        return
    assert of_bytes(read.to_bytes(CLUSTER, sender, 2), CLUSTER, 2)[1].kind == read.kind
