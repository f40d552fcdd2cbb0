"""The materialiser against a dict, and whole keyspaces through it and back, with crashes at any time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.checkpoint import elements, ops, rows
from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit, StreamDamaged
from durakv.checkpoint.frames import Frame
from durakv.checkpoint.kv import AUX, ELEM, GC, KEYS, META
from durakv.checkpoint.load import Loader, load
from durakv.checkpoint.materialise import Materialiser, adopt, found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.keyspace import journal
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.touched import TouchedPlaces

from .emit import DATABASES, Source, keyspace_facts
from .values import KINDS, a_value

CLUSTER = bytes(range(16))
SEEDS = st.integers(0, 1 << 32)


def store() -> MemoryKv:
    kv = MemoryKv()
    found(kv, CLUSTER, 7, DATABASES)
    return kv


def frame(index: int, some, *, before: int | None = None, term: int = 1) -> Frame:
    out: list[bytes] = []
    for encode, *arguments in some:
        encode(out, *arguments)
    return Frame(
        index - 1 if before is None else before, index, term, 0, index * 3, index * 10, len(some), b"".join(out)
    )


def loaded(kv, count=DATABASES):
    ks, aux = Keyspace(count), {}
    return load(kv, ks, aux.__setitem__), ks, aux


# -- against a dict -----------------------------------------------------------------------------------------------

TEXTS = st.sampled_from([b"", b"a", b"b", b"k" * 400, b"k" * 401, b"j" * 1000])
KIDS = st.integers(1, 4)
SOME_OPS = st.one_of(
    st.tuples(st.just(ops.put_key), st.integers(0, 2), st.integers(0, 3), st.sampled_from([-1, 0, 5]), TEXTS,
              st.binary(max_size=3).map(lambda b: b"\0" + b)),
    st.tuples(st.just(ops.delete_key), st.integers(0, 2), st.integers(0, 3), TEXTS),
    st.tuples(st.just(ops.insert_element), KIDS, st.integers(0, 99), TEXTS, st.binary(max_size=3)),
    st.tuples(st.just(ops.update_element), KIDS, TEXTS, st.binary(max_size=3)),
    st.tuples(st.just(ops.remove_element), KIDS, TEXTS),
    st.tuples(st.just(ops.slots_dead), st.integers(0, 2), st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just(ops.put_aux), st.sampled_from([b"x", b"y"]), st.binary(max_size=3)),
    st.tuples(st.just(ops.delete_aux), st.sampled_from([b"x", b"y"])),
)  # fmt: skip


class Model:
    def __init__(self):
        self.keys, self.elem, self.aux = {}, {}, {}

    def copy(self):
        twin = Model()
        twin.keys, twin.elem, twin.aux = dict(self.keys), dict(self.elem), dict(self.aux)
        return twin

    def take(self, some):
        """Apply ops; False, and nothing, when an update is not possible."""
        op, *a = some
        if op is ops.put_key:
            self.keys[a[1], a[0], a[3]] = (a[2], a[4])
        elif op is ops.delete_key:
            self.keys.pop((a[1], a[0], a[2]), None)
        elif op is ops.slots_dead:
            for place in [each for each in self.keys if each[1] == a[0] and a[1] <= each[0] <= a[2]]:
                del self.keys[place]
        elif op is ops.insert_element:
            self.elem[a[0], a[2]] = (a[1], a[3])
        elif op is ops.update_element:
            if (a[0], a[1]) not in self.elem:
                return False
            self.elem[a[0], a[1]] = (self.elem[a[0], a[1]][0], a[2])
        elif op is ops.remove_element:
            self.elem.pop((a[0], a[1]), None)
        elif op is ops.put_aux:
            self.aux[a[0]] = a[1]
        else:
            self.aux.pop(a[0], None)
        return True


def content(kv):
    txn = kv.begin(write=False)
    sums = rows.Sums()
    model = Model()
    for db in (KEYS, ELEM, AUX, GC):
        for row_key, value in txn.rows(db):
            assert rows.intact(row_key, value)
            sums.counts[db] += 1
            sums.crcs[db] ^= rows.crc_in(value)
            if db == KEYS:
                row = rows.KeyRow(row_key, value)
                model.keys[row.slot, row.phys, row.key] = (row.expire_ms, row.image)
            elif db == ELEM:
                order, element, part = rows.element_of(row_key, value)
                model.elem[rows.kid_of(row_key), element] = (order, part)
            elif db == AUX:
                model.aux[row_key] = value[:-4]
    stored = rows.Sums.parsed(txn.get(META, rows.SUMS)[:-4])
    assert (stored.counts, stored.crcs) == (sums.counts, sums.crcs)
    return model


@given(st.lists(st.tuples(SOME_OPS, st.sampled_from("....fcx")), max_size=60), st.booleans())
@settings(max_examples=150, deadline=None)
def test_rows_are_what_a_dict_would_hold(steps, tiny):
    kv = store()
    rows_max = 1 if tiny else 1000
    keeper = Materialiser(kv, rows_max)
    model, committed, committed_index = Model(), Model(), 0
    index, gathered = 0, []
    for some, then in steps:
        if not model.take(some):
            continue
        gathered.append(some)
        if then == ".":
            continue
        index += 1
        assert keeper.apply(frame(index, gathered))
        gathered = []
        if then == "c":
            keeper.commit()
            committed, committed_index = model.copy(), index
        elif then == "x":
            keeper.abandon()
            keeper = Materialiser(kv, rows_max)
            model, index = committed.copy(), committed_index
        assert keeper.applied.index == committed_index and keeper.reached.index == index
        assert vars(content(kv)) == vars(committed)
    assert keeper.apply(frame(index + 1, gathered))
    keeper.commit()
    assert vars(content(kv)) == vars(model)


# -- whole keyspaces ----------------------------------------------------------------------------------------------


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_what_is_loaded_is_what_was_there(seed):
    source = Source(seed)
    rng = Random(seed)
    kv = store()
    keeper = Materialiser(kv)
    frames = []
    index = 0
    for _ in range(rng.randrange(1, 12)):
        for _ in range(rng.randrange(1, 9)):
            source.change()
        count, body = source.take()
        frames.append(Frame(index, index + 2, 1, 0, index, index * 10, count, body))
        index += 2
        keeper.apply(frames[-1])
        choice = rng.random()
        if choice < 0.4:
            keeper.commit()
            while rng.random() < 0.5 and keeper.garbage():
                keeper.collect(rng.choice((1, 3, 1000)))
        elif choice < 0.5:
            keeper.abandon()
            keeper = Materialiser(kv)
            for made in frames:
                assert keeper.apply(made) is (made.index > keeper.applied.index)
    keeper.commit()
    result, ks, aux = loaded(kv)
    assert keyspace_facts(ks) == keyspace_facts(source.ks)
    assert digest(ks) == digest(source.ks)
    assert aux == source.aux
    assert (result.applied.index, result.applied.chain, result.applied.ts_ms) == (index, index - 2, (index - 2) * 10)
    assert result.db_map == source.physical
    assert result.next_kid > max(source._stored, default=0) and result.next_phys == source.next_phys
    assert result.keys == sum(db.size for db in ks.dbs)
    check_trackers(source, result, ks)
    while keeper.garbage():
        keeper.collect(50)
    assert list(kv.committed[GC]) == []
    assert {rows.kid_of(key) for key in kv.committed[ELEM]} <= set(source._stored)
    assert keyspace_facts(loaded(kv)[1]) == keyspace_facts(source.ks)


def check_trackers(source, result, ks):
    """The server can go on where it was: every value that has rows knows which."""
    held = dict(source._held)
    for string in result.large_strings:
        value, _ = source._stored[held.pop((string.db, string.key))]
        assert isinstance(value, (bytes, bytearray)) and string.tracker.length == len(value)
    for (n, key), kid in held.items():
        value = ks.dbs[n].peek(key)
        assert value.tracker.kid == kid
        assert elements.large(value, value.tracker) == elements.large(*source._stored[kid])
    for db in ks.dbs:
        for mapping in db.slots:
            for key, value in (mapping or {}).items():
                if (db.number, key) not in held:
                    assert getattr(value, "tracker", None) is None


@given(SEEDS, st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_loading_in_slices_is_loading(seed, rows_max):
    source = Source(seed)
    for _ in range(30):
        source.change()
    kv = store()
    keeper = Materialiser(kv)
    count, body = source.take()
    keeper.apply(Frame(0, 1, 1, 0, 0, 0, count, body))
    keeper.commit()
    ks = Keyspace(DATABASES)
    aux: dict[bytes, bytes] = {}
    loader = Loader(kv, ks, aux.__setitem__)
    steps = 0
    while loader.step(rows_max):
        steps += 1
        assert not aux
    total = sum(len(kv.committed[db]) for db in (KEYS, ELEM, AUX, GC))
    assert total // rows_max <= steps <= total // rows_max + 1
    assert keyspace_facts(ks) == keyspace_facts(source.ks) and aux == source.aux


def test_a_server_can_go_on_from_what_it_loaded():
    kv = store()
    keeper = Materialiser(kv)
    value = SetValue.of([b"%d" % i for i in range(100)])
    value.tracker = TouchedPlaces(1, 100)
    some = [(ops.insert_element, 1, 0, k, v) for k, v in elements.elements(value, value.tracker)]
    some.append((ops.put_key, 0, 5, -1, b"s", elements.large(value, value.tracker)))
    keeper.apply(frame(1, some))
    keeper.commit()
    again = loaded(kv)[1].dbs[0].slots[5][b"s"]
    again.pop_at(3)
    assert again.members[3] == b"99" and set(again.tracker.places) == {3} and again.tracker.length == 100


# -- what must be refused -----------------------------------------------------------------------------------------


def test_a_frame_that_does_not_follow_is_refused():
    keeper = Materialiser(store())
    assert keeper.apply(frame(3, [], before=0))
    assert not keeper.apply(frame(2, []))
    assert not keeper.apply(frame(3, [], before=1))
    with pytest.raises(StreamDamaged, match="begins at index 4, the checkpoint is at 3"):
        keeper.apply(frame(5, []))
    with pytest.raises(StreamDamaged, match="begins at index 2"):
        keeper.apply(frame(5, [], before=2))


def test_terms_do_not_fall():
    keeper = Materialiser(store())
    keeper.apply(frame(1, [], term=4))
    with pytest.raises(StreamDamaged, match="term 3"):
        keeper.apply(frame(2, [], term=3))


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ([(ops.update_element, 1, b"e", b"v")], "not there"),
        ([(ops.insert_element, 1, 0, b"e", b"v"), (ops.remove_element, 1, b"e"), (ops.update_element, 1, b"e", b"v")],
         "was removed"),
        ([(ops.put_aux, b"", b"x")], "aux name of 0"),
        ([(ops.put_key, 0, 0, -1, b"k", b"")], "without an image"),
    ],
)  # fmt: skip
def test_impossible_changes_are_refused(some, message):
    kv = store()
    keeper = Materialiser(kv)
    made = frame(1, some)
    with pytest.raises(StreamDamaged, match=message):
        _ = keeper.apply(made), keeper.commit()
    keeper.abandon()
    assert Materialiser(kv).applied.index == 0


def test_a_frame_with_another_number_of_changes_is_refused():
    keeper = Materialiser(store())
    made = frame(1, [(ops.put_key, 0, 0, -1, b"k", b"\0v")])
    made.ops = 2
    with pytest.raises(StreamDamaged, match="1 changes, not the 2"):
        keeper.apply(made)


def test_a_commit_without_changes_writes_nothing():
    kv = store()
    keeper = Materialiser(kv)
    before = kv.committed
    keeper.commit()
    assert kv.committed is before


def test_an_empty_store_is_no_checkpoint():
    with pytest.raises(CheckpointDamaged, match="empty"):
        Materialiser(MemoryKv())
    with pytest.raises(CheckpointDamaged, match="empty"):
        loaded(MemoryKv())
    with pytest.raises(CheckpointDamaged, match="empty"):
        adopt(MemoryKv(), 1)


def test_a_checkpoint_is_not_made_over_another():
    kv = store()
    with pytest.raises(AssertionError, match="once"):
        found(kv, CLUSTER, 7, DATABASES)


def test_adopting_changes_the_node_only():
    kv = store()
    adopt(kv, 99)
    result, _, _ = loaded(kv)
    assert (result.node_id, result.cluster_id, result.applied.index) == (99, CLUSTER, 0)


def test_more_databases_than_the_checkpoint_has_get_rows_of_their_own():
    kv = store()
    keeper = Materialiser(kv)
    keeper.apply(frame(1, [(ops.db_dead, 2), (ops.db_map, [0, 1, 9, 3])]))
    keeper.commit()
    result, _, _ = loaded(kv, DATABASES + 2)
    assert result.db_map == [0, 1, 9, 3, 10, 11] and result.next_phys == 12
    with pytest.raises(CheckpointUnfit, match="set 'databases' to 4"):
        loaded(kv, 2)


# -- damage -------------------------------------------------------------------------------------------------------


def sample() -> tuple[MemoryKv, Source]:
    source = Source(11)
    for kind in KINDS:
        source.ks.dbs[1].put(kind.encode(), a_value(source.rng, kind, 7))
        source._dirty[1, kind.encode()] = None
    for kind in ("hash", "list", "stream"):
        source.ks.dbs[2].put(kind.encode() * 100, a_value(source.rng, kind, 36))
        source._dirty[2, kind.encode() * 100] = None
    source.flush(3)
    source._add(ops.put_aux, b"name", b"blob")
    journal.steps.clear()
    kv = store()
    keeper = Materialiser(kv)
    count, body = source.take()
    keeper.apply(Frame(0, 1, 1, 0, 0, 0, count, body))
    keeper.commit()
    return kv, source


def test_every_row_that_is_damaged_or_missing_is_noticed():
    kv, _ = sample()
    loaded(kv)
    rng = Random(3)
    for db in (KEYS, ELEM, AUX, GC, META):
        for row_key, value in list(kv.committed[db].items()):
            spots = range(len(value)) if len(value) < 20 else [*range(10), *rng.sample(range(len(value)), 5)]
            for at in spots:
                bad = bytearray(value)
                bad[at] ^= 1 << rng.randrange(8)
                kv.committed[db][row_key] = bytes(bad)
                with pytest.raises(CheckpointDamaged):
                    loaded(kv)
            del kv.committed[db][row_key]
            with pytest.raises(CheckpointDamaged):
                loaded(kv)
            if db != META:
                moved = bytearray(row_key)
                moved[rng.randrange(len(moved))] ^= 1 << rng.randrange(8)
                if bytes(moved) not in kv.committed[db]:
                    kv.committed[db][bytes(moved)] = value
                    with pytest.raises(CheckpointDamaged):
                        loaded(kv)
                    del kv.committed[db][bytes(moved)]
            kv.committed[db][row_key] = value
    loaded(kv)


def test_a_row_from_the_past_is_noticed():
    kv = store()
    keeper = Materialiser(kv)
    keeper.apply(frame(1, [(ops.put_key, 0, 0, -1, b"k", b"\0old")]))
    keeper.commit()
    past = dict(kv.committed[KEYS])
    keeper.apply(frame(2, [(ops.put_key, 0, 0, -1, b"k", b"\0new")]))
    keeper.commit()
    kv.committed[KEYS] = past
    with pytest.raises(CheckpointDamaged, match="not those of the last commit"):
        loaded(kv)


def test_damage_is_not_hidden_by_writing_over_it():
    kv = store()
    keeper = Materialiser(kv)
    keeper.apply(frame(1, [(ops.put_key, 0, 0, -1, b"k", b"\0value")]))
    keeper.commit()
    row_key, value = next(iter(kv.committed[KEYS].items()))
    kv.committed[KEYS][row_key] = value[:2] + b"X" + value[3:]
    keeper.apply(frame(2, [(ops.put_key, 0, 0, -1, b"k", b"\0new")]))
    with pytest.raises(CheckpointDamaged, match="database keys"):
        keeper.commit()


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ([(ops.insert_element, 5, 0, b"e", b"v")], "no key has elements of 5"),
        ([(ops.put_key, 8, 0, -1, b"k", b"\0v")], "no database has the number 8"),
        ([(ops.db_dead, 1)], "database 1 is in use"),
        ([(ops.put_key, 0, 16384, -1, b"k", b"\0v")], "no slot 16384"),
        ([(ops.put_key, 0, 0, -1, b"k", b"\x63v")], "kind 99"),
    ],
)
def test_rows_that_contradict_each_other_are_damage(some, message):
    kv = store()
    keeper = Materialiser(kv)
    keeper.apply(frame(1, some))
    keeper.commit()
    with pytest.raises(CheckpointDamaged, match=message):
        loaded(kv)


def test_two_keys_with_the_same_elements_are_damage():
    kv = store()
    keeper = Materialiser(kv)
    header = elements.large(b"x" * 70_000, type("T", (), {"kid": 4}))
    keeper.apply(frame(1, [(ops.put_key, 0, 0, -1, b"k", header), (ops.put_key, 0, 1, -1, b"j", header)]))
    keeper.commit()
    with pytest.raises(CheckpointDamaged, match="elements are those of 4"):
        loaded(kv)


def test_a_dump_of_a_store_comes_back():
    kv, _ = sample()
    again = MemoryKv.restore(kv.dump())
    assert again.committed == kv.committed
    with pytest.raises(OSError, match="no dump"):
        MemoryKv.restore(kv.dump()[:-1])
