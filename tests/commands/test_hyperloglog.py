"""HyperLogLogs: bytes and counts equal stock servers', registers equal a model, damage is found, undo is exact."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import durakv
from durakv.commands import hyperloglog
from durakv.commands import hyperloglog_registers as hll
from tests.commands.running import Failed, Reference, Run, parsed
from tests.commands.value_programs import TABLE, Words, assert_alike, assert_programs_alike

KEYS = ("a", "b", "c", "{a}d")


def elements(dice: Random, many: int) -> list[str | bytes | int]:
    kind = dice.randrange(4)
    count = dice.choice((0, 1, 1, 2, 5, many))
    if kind == 0:
        return [dice.randbytes(dice.randrange(20)) for _ in range(count)]
    return [f"e{dice.randrange(20000)}" for _ in range(count)]


def key(dice: Random) -> str:
    return dice.choice(KEYS) if dice.random() < 0.95 else dice.choice(("list", "text", "number"))


def command(dice: Random, names: tuple[str, ...]) -> Words:
    name = dice.choice(names)
    if name == "PFADD":
        return [name, key(dice), *elements(dice, 400)]
    if name in ("PFCOUNT", "PFMERGE"):
        return [name, *[key(dice) for _ in range(dice.choice((1, 1, 2, 3)))]]
    if name == "PFDEBUG":
        return [name, dice.choice(("ENCODING", "DECODE", "decode", "TODENSE", "GETREG", "x")), key(dice)]
    return [name, key(dice)]


OTHERS: list[Words] = [["RPUSH", "list", "x"], ["SET", "text", "HYLL" + "x" * 20], ["SET", "number", 12345]]


@pytest.mark.live
def test_bytes_equal_stock_servers(stock: Reference) -> None:
    """Without PFCOUNT, which alone writes to the value elsewhere."""
    names = ("PFADD", "PFADD", "PFADD", "PFADD", "PFMERGE", "PFDEBUG", "DEL", "STRLEN")
    assert_programs_alike(stock, 40, lambda dice: OTHERS + [command(dice, names) for _ in range(30)])


@pytest.mark.live
def test_counts_equal_stock_servers(stock: Reference) -> None:
    names = ("PFADD", "PFADD", "PFADD", "PFCOUNT", "PFCOUNT", "PFMERGE", "DEL")

    def comparable(words: Words, reply: object) -> object:
        # The cached cardinality, which is not kept here.
        return reply[:8] + reply[16:] if words[0] == "GET" and isinstance(reply, bytes) else reply

    for seed in range(40):
        dice = Random(seed)
        assert_alike(OTHERS + [command(dice, names) for _ in range(30)], stock, seed % 4 == 0, comparable)


@pytest.mark.live
@pytest.mark.parametrize("order", ["together", "one by one"])
def test_the_step_from_sparse_to_dense_equals_stock_servers(stock: Reference, order: str) -> None:
    dice = Random(order)
    run = Run(TABLE)
    stock("FLUSHALL")
    seen = set()
    for n in range(900):
        words = [f"x{dice.randrange(10**9)}" for _ in range(1 if order == "one by one" else 4)]
        assert run("PFADD", "k", *words) == stock("PFADD", "k", *words)
        ours, theirs = run("GET", "k"), stock("GET", "k")
        assert ours == theirs, f"{stock.name}: after {n + 1} calls"
        seen.add(hll.is_sparse(ours))
        if len(seen) == 2 and n % 10 == 0:
            assert run("PFCOUNT", "k") == stock("EVAL", "return redis.call('PFCOUNT', KEYS[1], 'none')", 1, "k")
    assert seen == ({True, False} if order == "together" else {True})


@pytest.mark.live
def test_damage_is_found_as_valkey_finds_it(stock: Reference) -> None:
    if stock.name == "redis-server":
        pytest.skip("Redis 7 forgives other kinds of damage than Valkey")
    for seed in range(150):
        dice = Random(seed)
        run = Run(TABLE)
        stock("FLUSHALL")
        words: Words = ["PFADD", "k", *[f"e{dice.randrange(10**6)}" for _ in range(dice.choice((0, 3, 50, 800)))]]
        program: list[Words] = [words]
        run(*words)
        for _ in range(dice.choice((1, 1, 2, 5))):
            offset = dice.choice((dice.randrange(run("STRLEN", "k")), dice.randrange(18), run("STRLEN", "k")))
            program.append(["SETRANGE", "k", offset, dice.randbytes(dice.choice((1, 1, 2)))])
            run(*program[-1])
        program += [["PFCOUNT", "k", "none"], ["PFCOUNT", "k"], ["PFMERGE", "to", "k"], ["PFDEBUG", "ENCODING", "k"]]
        program.append(["PFDEBUG", "TODENSE", "k"])
        run = Run(TABLE)
        for done in program:
            ours, theirs = parsed(run.wire(*done)), stock(*done)
            assert ours == theirs, f"{stock.name}: seed {seed}: {program!r}: at {done!r}"


# -- a model -------------------------------------------------------------------------------------------------------


def model(words: list[bytes]) -> list[int]:
    registers = [0] * hll.REGISTERS
    for word in words:
        index, rank = hll.place_of(word)
        registers[index] = max(registers[index], rank)
    return registers


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.sampled_from([1, 10, 300, 3000]), dense=st.booleans())
def test_registers_equal_a_model(seed: int, count: int, dense: bool) -> None:
    dice = Random(seed)
    words = [dice.randbytes(dice.randrange(1, 12)) for _ in range(count)]
    run = Run(TABLE)
    run("PFADD", "k")
    if dense:
        run("PFDEBUG", "TODENSE", "k")
    for at in range(0, count, 50):
        run("PFADD", "k", *words[at : at + 50])
    counted = run("PFCOUNT", "k")
    wanted = model(words)
    assert run("PFDEBUG", "GETREG", "k") == wanted
    assert counted == hll.estimate(hll.histogram_of(bytes(wanted)))
    assert abs(counted - len(set(words))) <= max(0.06 * count, 1)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_packing_and_merging_equal_the_plain_way(seed: int, wild: bool) -> None:
    dice = Random(seed)
    first = [dice.randrange(64 if wild else 5) for _ in range(hll.REGISTERS)]
    second = [dice.randrange(64 if wild else 5) for _ in range(hll.REGISTERS)]
    packed = hll.dense_of(hll.EMPTY, bytes(first))
    assert hll.registers_of(packed) == bytes(first)
    at = dice.randrange(hll.REGISTERS)
    assert hll.dense_get(packed, at) == first[at]
    where, window = hll.dense_window(packed, at, 63)
    packed[where : where + len(window)] = window
    first[at] = 63
    assert hll.registers_of(packed) == bytes(first)
    assert hll.merged(bytes(first), bytes(second)) == bytes(map(max, first, second))
    assert hll.histogram(packed) == [first.count(value) for value in range(64)]


def test_registers_raised_in_order_equal_those_raised_at_random() -> None:
    """The shortcut for ascending registers must not show in the bytes."""
    for seed in range(40):
        dice = Random(seed)
        places = sorted(
            (dice.randrange(hll.REGISTERS), dice.randrange(1, 6)) for _ in range(dice.choice((5, 100, 700)))
        )
        shortcut = bytearray(hll.EMPTY)
        edit = hll.SparseEdit(shortcut)
        plain = bytearray(hll.EMPTY)
        for index, rank in places:
            assert edit.raise_to(index, rank) == hll.SparseEdit(plain).raise_to(index, rank)
        assert shortcut == plain


# -- behaviour -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command_words", "events"), [
    ("PFADD n", "new n, pfadd n"), ("PFADD n a", "new n, pfadd n"), ("PFADD k a", ""), ("PFADD k z", "pfadd k"),
    ("PFADD k", ""), ("PFCOUNT k", ""), ("PFMERGE n k", "new n, pfadd n"), ("PFMERGE k", "pfadd k"),
])  # fmt: skip
def test_events(command_words: str, events: str) -> None:
    run = Run(TABLE)
    run("PFADD", "k", "a", "b")
    run.events.clear()
    run(*command_words.split())
    assert ", ".join(f"{event.decode()} {name.decode()}" for _, event, name in run.events) == events


def test_every_form_is_undone_exactly() -> None:
    run = Run(TABLE)
    run.check_undo = True
    run("PFADD", "k", "a")
    run("PFADD", "k", *range(50))
    run("PFDEBUG", "TODENSE", "k")
    assert type(run.ks.dbs[0].get(b"k")) is bytearray
    run("PFADD", "k", *range(100))
    run("SET", "copy", run("GET", "k"))
    run("PFADD", "copy", *range(200))
    run("PFMERGE", "copy", "k")
    run("PFMERGE", "small", "none")
    assert run("PFADD", "copy", *range(200)) == 0


def test_a_read_leaves_the_value_alone_and_a_cache_that_came_along_is_used() -> None:
    run = Run(TABLE)
    run("PFADD", "k", "a", "b")
    before = run("GET", "k")
    assert run("PFCOUNT", "k") == 2
    assert run("GET", "k") == before
    cached = before[:8] + (77).to_bytes(8, "little") + before[16:]
    run("SET", "k", cached)
    assert run("PFCOUNT", "k") == 77
    assert run("PFADD", "k", "a") == 0
    assert run("PFCOUNT", "k") == 77
    assert run("PFADD", "k", "c") == 1
    assert run("PFCOUNT", "k") == 3
    run("PFDEBUG", "TODENSE", "k")
    run("SETRANGE", "k", 8, bytes(8))
    assert run("PFCOUNT", "k") == 0
    assert run("PFADD", "k", "d") == 1
    assert run("PFCOUNT", "k") == 4


def test_a_damaged_sparse_value_is_refused_whole() -> None:
    run = Run(TABLE)
    run.check_undo = True
    run("PFADD", "k", "a")
    run("SET", "k", run("GET", "k")[:-2])
    before = run("GET", "k")
    assert run("PFADD", "k", *range(100)) == Failed(hyperloglog.CORRUPTED)
    assert run("GET", "k") == before


def test_forged_registers_do_not_break_the_estimate() -> None:
    assert hll.estimate(hll.histogram_of(bytes([51]) * hll.REGISTERS)) == -(2**63)
    assert hll.estimate(hll.histogram_of(bytes([63]) * hll.REGISTERS)) == -(2**63)


@pytest.mark.skipif(
    durakv.build_mode().startswith("compiled"), reason="what is compiled cannot be replaced; the interpreted run has it"
)
def test_the_self_test_passes_and_finds_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(TABLE)
    assert run.wire("PFSELFTEST") == b"+OK\r\n"
    monkeypatch.setattr(hll, "place_of", lambda element: (3, 2))
    assert run("PFSELFTEST").text.startswith("TESTFAILED Too big error")
