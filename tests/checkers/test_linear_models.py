import itertools

import pytest

from jstyle.checkers.models import ANY, BLIND, ILLEGAL, SHARP, Counter, Register
from jstyle.checkers.models_command import Commands
from jstyle.checkers.models_multi import Blocks
from jstyle.history.op import Call, HistoryError, Op

YES, NO = ("bool", 1), ("bool", 0)
STATES = [None, 0, 1, 2]
REGISTER_STEPS = [
    *[("read", None, value) for value in STATES],
    *[("write", value, None) for value in STATES],
    *[("cas", pair, result) for pair in itertools.product(STATES, STATES) for result in (YES, NO, ANY)],
    *[(name, value, result) for name in ("setnx", "setxx") for value in (1, 2) for result in (YES, NO, ANY)],
    *[("del", None, result) for result in (YES, NO, ANY)],
    *[("getset", value, result) for value in (1, 2) for result in (*STATES, ANY)],
]
TEXTS = [None, "0", "1", "ab"]
COMMAND_STEPS = [
    *[("GET", (), value) for value in TEXTS],
    *[("SET", ("1", *flags), result) for flags in ((), ("NX",), ("XX",), ("GET",)) for result in ("OK", None, ANY)],
    *[(name, (), result) for name in ("DEL", "UNLINK", "EXISTS") for result in ("0", "1", ANY)],
    *[("CAS", pair, result) for pair in itertools.product(TEXTS[1:], TEXTS[1:]) for result in ("0", "1", ANY)],
    *[("SETNX", ("1",), result) for result in ("0", "1", ANY)],
    *[("GETSET", ("1",), result) for result in (*TEXTS, ANY)],
    *[("GETDEL", (), result) for result in (*TEXTS, ANY)],
    *[("INCRBY", ("2",), result) for result in ("2", "3", "error", ANY)],
    *[("APPEND", ("x",), result) for result in ("1", "2", ANY)],
    *[("STRLEN", (), result) for result in ("0", "1")],
]
ALL = [*[(Register(), STATES, step) for step in REGISTER_STEPS], *[(Commands(), TEXTS, step) for step in COMMAND_STEPS]]


@pytest.mark.parametrize(("model", "states", "step"), ALL, ids=lambda one: repr(one) if isinstance(one, tuple) else "")
def test_what_a_model_says_of_a_step_is_how_the_step_acts(model, states, step):
    after = {state: model.apply(state, step) for state in states}
    if model.pure(step):
        assert all(to is ILLEGAL or to == state for state, to in after.items())
    if not model.shows(step):
        assert ILLEGAL not in after.values()
    sight = model.sight(step)
    if sight is BLIND:
        assert set(after.values()) == {model.gives(step)}
    elif sight is not SHARP:
        assert all(to is ILLEGAL or to == state for state, to in after.items() if state != sight)
        if sight in states and after[sight] != sight:
            assert after[sight] == model.gives(step)


def call(f, value, reply="none given", key=None):
    start = Op(0, 0, 0, "invoke", f, value, key=key)
    return Call(start, None if reply == "none given" else Op(1, 1, 0, "ok", f, reply, key=key))


@pytest.mark.parametrize(
    ("model", "one", "step"),
    [
        (Register(), call("read", None), None),
        (Register(), call("get", None, 5), ("read", None, 5)),
        (Register(), call("w", 5, 5), ("write", 5, None)),
        (Register(), call("cas", [1, 2], [1, 2]), ("cas", (1, 2), YES)),
        (Register(), call("cas", [1, 2], False), ("cas", (1, 2), NO)),
        (Register(), call("cas", [1, 2]), ("cas", (1, 2), ANY)),
        (Register(), call("del", None, 1), ("del", None, YES)),
        (Register(), call("del", None, 0), ("del", None, NO)),
        (Register(), call("del", None, None), ("del", None, ANY)),
        (Counter(), call("incr", None, 3), ("incr", 1, 3)),
        (Counter(), call("decr", 2, 3), ("incr", -2, 3)),
        (Counter(), call("add", 2, 2), ("add", 2, ANY)),
        (Counter(), call("read", None, None), ("read", 0, 0)),
        (Commands(), call("get", None, 5), ("GET", (), "5")),
        (Commands(), call("INCR", None, 7), ("INCRBY", ("1",), "7")),
        (Commands(), call("SET", ["a", "NX"], None), ("SET", ("a", "NX"), None)),
        (Commands(), call("DEL", None, None), ("DEL", (), ANY)),
        (Commands(), call("INCRBY", 3, {"error": "not an integer"}), ("INCRBY", ("3",), "error")),
        (Commands(), call("APPEND", "x"), ("APPEND", ("x",), ANY)),
    ],
)
def test_calls_become_steps(model, one, step):
    assert model.step(one) == step


@pytest.mark.parametrize(
    ("model", "one", "about"),
    [
        (Register(), call("push", 1), "no 'push'"),
        (Register(), call("cas", 1), "takes"),
        (Counter(), call("write", 1), "no 'write'"),
        (Counter(), call("add", "x"), "whole number"),
        (Commands(), call("LPUSH", 1), "no model"),
        (Commands(), call("SET", None), "needs 1"),
        (Commands(), call("INCRBY", "x"), "whole number"),
        (Blocks(Register(), ["x"]), call("txn", 5), "a list of"),
        (Blocks(Register(), ["x"]), call("txn", [["r"]]), "part is"),
        (Blocks(Register(), ["x"]), call("txn", [["r", "x", None]], []), "as many replies"),
    ],
)
def test_calls_a_model_cannot_read_are_refused(model, one, about):
    with pytest.raises(HistoryError, match=about):
        model.step(one)


def test_a_block_happens_as_a_whole_or_not_at_all():
    model = Blocks(Register(), ["x", "y"])
    step = model.step(call("txn", [["w", "x", 1], ["r", "x", None], ["r", "y", None]], [None, 1, ["r", "y", 2]]))
    assert model.apply((None, 2), step) == (1, 2)
    assert model.apply((None, None), step) is ILLEGAL
