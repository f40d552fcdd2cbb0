"""Blocks against the deque they take the place of, and long lists against plain ones."""

from __future__ import annotations

from collections import deque
from itertools import islice
from random import Random
from typing import Any

import pytest

from durakv.keyspace import journal
from durakv.keyspace.values.blocks import UNDIVIDED_MAX, Blocks, items_of
from durakv.keyspace.values.listvalue import ListValue


def whole(blocks: Blocks) -> list[bytes]:
    """Its elements; checks what holds between operations."""
    sizes = [len(block) for block in blocks.blocks]
    assert sum(sizes) == len(blocks)
    assert all(sizes) or (sizes == [0] and len(blocks) == 0)
    assert list(reversed(blocks)) == list(blocks)[::-1]
    return list(blocks)


def step(random: Random, made: Any, n: int, number: int) -> Any:
    """One random operation; what it gave."""
    element = b"%d" % number
    kind = random.randrange(12)
    if kind == 0:
        return made.append(element)
    if kind == 1:
        return made.appendleft(element)
    if kind == 2:
        return made.extend([element, b"x", b"y"])
    if kind == 3:
        return made.extendleft([element, b"x", b"y"])
    if n == 0:
        return made.insert(0, element)
    at = random.choice([0, n - 1, random.randrange(n), random.randrange(n), -1, -n])
    if kind == 4:
        return made.pop()
    if kind == 5:
        return made.popleft()
    if kind == 6:
        return made[at]
    if kind == 7:
        made[at] = element
        return None
    if kind == 8:
        del made[at]
        return None
    if kind == 9:
        return made.count(b"x"), made.index(made[at])
    if kind == 10:
        return list(islice(made, max(at, 0), max(at, 0) + 5))
    return made.insert(random.randrange(n + 1), element)


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_give_what_a_deque_gives(seed: int) -> None:
    size = [0, 3, 2048, 9000, 20_000, 4097][seed]
    start = [b"%d" % n for n in range(size)]
    blocks, model = Blocks(start), deque(start)
    for number in range(600):
        ours = step(Random(f"{seed} {number}"), blocks, len(model), number)
        assert ours == step(Random(f"{seed} {number}"), model, len(model), number)
        if number % 20 == 0:
            assert whole(blocks) == list(model)
            n = len(model)
            first = Random(number).randrange(n + 1)
            count = Random(-number).randrange(n - first + 1)
            assert blocks.part(first, count) == list(islice(model, first, first + count))


def test_elements_put_into_one_place_divide_their_block() -> None:
    blocks, model = Blocks([b"a", b"b"]), deque([b"a", b"b"])
    for number in range(10_000):
        blocks.insert(1, b"%d" % number)
        model.insert(1, b"%d" % number)
    assert whole(blocks) == list(model)
    assert max(len(block) for block in blocks.blocks) < 4096
    while model:
        at = len(model) // 3
        del blocks[at]
        del model[at]
        if len(model) % 1000 == 0:
            assert whole(blocks) == list(model)
    with pytest.raises(IndexError):
        blocks.pop()
    with pytest.raises(IndexError):
        blocks[0]
    with pytest.raises(ValueError, match="not in the list"):
        blocks.index(b"a")


def test_a_list_is_divided_when_it_is_long_and_every_step_can_be_undone() -> None:
    value = ListValue()
    for number in range(UNDIVIDED_MAX + 10):
        value.push_right([b"%d" % number])
    assert isinstance(value.items, Blocks)
    before, size = list(value.items), value.size
    journal.steps.clear()
    random = Random(7)
    for number in range(200):
        value.push_left([b"l%d" % number, b"m"])
        value.push_right([b"r%d" % number])
        value.set(random.randrange(len(value)), b"set")
        value.insert(random.randrange(len(value)), b"put")
        value.pop_left()
        value.pop_right()
    value.remove(0, b"set")
    value.trim(100, 50)
    middle = len(value) // 2
    assert value.range(middle, middle + 9) == list(value.items)[middle : middle + 10]
    value.trim(middle, middle - 20)
    assert len(value) < 100
    assert isinstance(value.items, deque)
    journal.roll_back()
    assert list(value.items) == before
    assert value.size == size
    assert isinstance(items_of(before), Blocks)
    assert isinstance(items_of(before[:100]), deque)
