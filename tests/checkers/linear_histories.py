"""Random small histories: a true register behind clients that overlap, crash and fail, and lies told about it."""

from __future__ import annotations

import random

from jstyle.history.op import FAIL, INFO, INVOKE, OK, Op


class Shape:
    """What a drawn history may contain. ``lies`` is the chance that a read's reply is replaced."""

    def __init__(
        self, *, calls: int, clients: int, crash: float, fail: float, lies: float, values: int, unique: bool = False,
        ops: tuple[str, ...] = ("read", "write", "cas"), keys: int = 1,
    ) -> None:  # fmt: skip
        self.calls = calls
        self.clients = clients
        self.crash = crash
        self.fail = fail
        self.lies = lies
        self.values = values
        self.unique = unique
        self.ops = ops
        self.keys = keys


def _effect(state: object, f: str, value: object) -> tuple[object, object, bool]:
    """State after, reply, and whether the call is reported ok."""
    if f == "read":
        return state, state, True
    if f == "write":
        return value, value, True
    if f == "cas":
        assert isinstance(value, list)
        return (value[1], value, True) if state == value[0] else (state, False, True)
    if f == "setnx":
        return (value, True, True) if state is None else (state, False, True)
    if f == "incr":
        total = (state or 0) + value  # type: ignore[operator]
        return total, total, True
    return None, state is not None, True


def draw(dice: random.Random, shape: Shape) -> list[Op]:
    """A history; with no lies it is linearizable."""
    history: list[Op] = []
    states: dict[int, object] = {}
    # process -> [key, f, argument, reply or marker that it did not take effect yet]
    open_calls: dict[int, list[object]] = {}
    processes = list(range(shape.clients))
    fresh = shape.clients
    begun = 0
    next_value = 1

    def put(process: int, type_: str, f: str, value: object, key: int) -> None:
        history.append(Op(len(history), len(history), process, type_, f, value, key=key))

    while begun < shape.calls or open_calls:
        process = dice.choice(processes)
        call = open_calls.get(process)
        if call is None:
            if begun >= shape.calls:
                process = dice.choice(sorted(open_calls))
                call = open_calls[process]
            else:
                begun += 1
                f = dice.choice(shape.ops)
                key = dice.randrange(shape.keys)
                if shape.unique and f == "write":
                    value: object = next_value
                    next_value += 1
                elif f == "cas":
                    value = [dice.randrange(shape.values), dice.randrange(shape.values)]
                elif f in {"read", "del"}:
                    value = None
                else:
                    value = dice.randrange(shape.values)
                open_calls[process] = [key, f, value, None, False]
                put(process, INVOKE, f, value, key)
                continue
        given_key, f, value, reply, acted = call[0], str(call[1]), call[2], call[3], call[4]
        assert isinstance(given_key, int)
        key = given_key
        if not acted and dice.random() < 0.5:
            if dice.random() < shape.fail:
                put(process, FAIL, f, value, key)
                del open_calls[process]
                continue
            states[key], call[3], _ = _effect(states.get(key), f, value)
            call[4] = True
            continue
        if dice.random() < shape.crash:
            del open_calls[process]
            processes[processes.index(process)] = fresh
            fresh += 1
            if dice.random() < 0.5:
                put(process, INFO, f, value, key)
        elif acted:
            if f == "read" and dice.random() < shape.lies:
                reply = dice.choice([None, *range(max(shape.values, next_value))])
            put(process, OK, f, reply, key)
            del open_calls[process]
    return history
