"""The encoding's name at each threshold, and its stickiness, as Valkey 9 has them."""

from __future__ import annotations

import pytest

from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.packed import is_integer, packed_size
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet


@pytest.mark.parametrize(
    ("text", "integer"),
    [
        (b"0", True), (b"-0", False), (b"", False), (b"-", False), (b"+1", False), (b"01", False), (b"-01", False),
        (b"12", True), (b"-12", True), (b" 1", False), (b"1 ", False), (b"1.0", False), (b"\xb2", False),
        (b"1_0", False),
        (b"9223372036854775807", True), (b"9223372036854775808", False),
        (b"-9223372036854775808", True), (b"-9223372036854775809", False), (b"99999999999999999999", False),
    ],
)  # fmt: skip
def test_which_bytes_are_integers(text: bytes, integer: bool) -> None:
    assert is_integer(text) is integer


@pytest.mark.parametrize(
    ("element", "size"),
    [
        (b"", 2), (b"a", 3), (b"5", 2), (b"127", 2), (b"128", 3), (b"-1", 3), (b"-4096", 3), (b"4096", 4),
        (b"32767", 4), (b"32768", 5), (b"8388607", 5), (b"8388608", 6), (b"2147483648", 10), (b"007", 5),
        (b"x" * 63, 65), (b"x" * 64, 67), (b"x" * 125, 128), (b"x" * 126, 130), (b"x" * 4095, 4099),
        (b"x" * 4096, 4103), (b"x" * 20000, 20008),
    ],
)  # fmt: skip
def test_listpack_entry_sizes(element: bytes, size: int) -> None:
    assert packed_size(element) == size


def test_hash_entries() -> None:
    value = Hash()
    for i in range(512):
        value.set(b"%d" % i, b"v")
    assert value.encoding() == b"listpack"
    value.set(b"0", b"again")
    assert value.encoding() == b"listpack"
    value.set(b"512", b"v")
    assert value.encoding() == b"hashtable"
    value.delete(b"512")
    assert value.encoding() == b"hashtable"


@pytest.mark.parametrize(("field", "content"), [(b"f", b"v" * 65), (b"f" * 65, b"v")])
def test_hash_value_size(field: bytes, content: bytes) -> None:
    value = Hash()
    value.set(field[:64], content[:64])
    assert value.encoding() == b"listpack"
    value.set(field, content)
    assert value.encoding() == b"hashtable"


def test_hash_told_of_too_many_fields() -> None:
    value = Hash()
    value.expect(512)
    assert value.encoding() == b"listpack"
    value.expect(513)
    assert value.encoding() == b"hashtable"


def test_set_forms() -> None:
    value = SetValue()
    value.expect(1, b"1")
    for i in range(127):
        value.add(b"%d" % i)
    assert value.encoding() == b"intset"
    value.add(b"word")
    assert value.encoding() == b"listpack"
    value.add(b"word2")
    assert value.encoding() == b"hashtable"
    value.remove(b"word2")
    assert value.encoding() == b"hashtable"


def test_intset_grows_into_a_hash_table() -> None:
    value = SetValue()
    for i in range(512):
        value.add(b"%d" % i)
    assert value.encoding() == b"intset"
    value.add(b"512")
    assert value.encoding() == b"hashtable"


def test_a_large_intset_takes_no_word_as_listpack() -> None:
    value = SetValue()
    for i in range(200):
        value.add(b"%d" % i)
    value.add(b"word")
    assert value.encoding() == b"hashtable"


def test_a_long_member_ends_a_listpack() -> None:
    value = SetValue()
    value.add(b"x" * 64)
    assert value.encoding() == b"listpack"
    value.add(b"y" * 65)
    assert value.encoding() == b"hashtable"


@pytest.mark.parametrize(
    ("count", "first", "name"),
    [
        (1, b"1", b"intset"), (512, b"1", b"intset"), (513, b"1", b"hashtable"), (128, b"a", b"listpack"),
        (129, b"a", b"hashtable"),
    ],
)  # fmt: skip
def test_set_created_for_a_number_of_members(count: int, first: bytes, name: bytes) -> None:
    value = SetValue()
    value.expect(count, first)
    assert value.encoding() == name


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 512, 513])
@pytest.mark.parametrize("word", [b"", b"word", b"w" * 64, b"w" * 65])
def test_a_set_built_at_once_has_the_form_of_one_grown(count: int, word: bytes) -> None:
    members = [b"%d" % i for i in range(count)]
    if word:
        members.append(word)
    grown = SetValue()
    for member in members:
        grown.add(member)
    built = SetValue.of(list(members))
    assert built.encoding() == grown.encoding()
    assert built.members == grown.members
    assert built.positions == grown.positions


def test_zset_thresholds() -> None:
    value = ZSet()
    for i in range(128):
        value.set(b"%d" % i, 1.0)
    value.set(b"0", 2.0)
    assert value.encoding() == b"listpack"
    value.set(b"128", 1.0)
    assert value.encoding() == b"skiplist"
    value.remove(b"128")
    assert value.encoding() == b"skiplist"
    value = ZSet()
    value.set(b"x" * 65, 1.0)
    assert value.encoding() == b"skiplist"


def test_list_becomes_a_quicklist_above_8_kib_and_returns_at_half() -> None:
    value = ListValue()
    for _ in range(8):
        value.push_right([b"x" * 1000])
    # 7 + 8 * 1004 bytes; upstream adds the raw length of what comes.
    assert value.size == 8039
    assert value.encoding() == b"listpack"
    value.push_right([b"x" * 153])
    assert value.encoding() == b"listpack"
    value.pop_right()
    value.push_right([b"x" * 154])
    assert value.encoding() == b"quicklist"
    for _ in range(4):
        value.pop_left()
        assert value.encoding() == b"quicklist"
    value.pop_right()
    assert value.size == 7 + 4 * 1004
    assert value.encoding() == b"listpack"


def test_list_limited_by_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListValue, "listpack_size", 4)
    value = ListValue()
    value.push_right([b"a", b"b", b"c", b"d"])
    assert value.encoding() == b"listpack"
    value.push_left([b"e"])
    assert value.encoding() == b"quicklist"
    value.pop_left()
    value.pop_left()
    assert value.encoding() == b"quicklist"
    value.pop_left()
    assert value.encoding() == b"listpack"


def test_list_size_is_kept_through_every_change() -> None:
    value = ListValue()
    value.push_left([b"1", b"two", b"333", b"x" * 70])
    value.grow([b"y"])
    value.insert(2, b"y" * 200)
    value.set(0, b"99999")
    value.remove(0, b"two")
    value.trim(1, 1)
    assert value.size == 7 + sum(packed_size(item) for item in value.items)
