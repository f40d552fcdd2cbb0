from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jstyle.history.edn import NESTING_MAX, EdnError, EdnSet, Keyword, Symbol, dump, frozen, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil true false", [None, True, False]),
        ("1 -2 +3 0 007", [1, -2, 3, 0, 7]),
        ("12345678901234567890 5N -7N", [12345678901234567890, 5, -7]),
        ("1/2 4/2 -3/9", [Fraction(1, 2), 2, Fraction(-1, 3)]),
        ("1.5 1e3 -2.5E-1 1.", [1.5, 1000.0, -0.25, 1.0]),
        ("1.50M 3M", [Decimal("1.50"), Decimal(3)]),
        ("##Inf ##-Inf", [float("inf"), float("-inf")]),
        (":a :ns/name :set-nx :a.b :x? :+", ["a", "ns/name", "set-nx", "a.b", "x?", "+"]),
        ("sym a/b - -x +", ["sym", "a/b", "-", "-x", "+"]),
        (r'"" "a b" "q\"q" "\\" "\n\t"', ["", "a b", 'q"q', "\\", "\n\t"]),
        (r'"\u00e9" "\ud83d\ude00" "\101"', ["é", "😀", "A"]),
        (r"\a \newline \space \u0041 \( \,", ["a", "\n", " ", "A", "(", ","]),
        ("[1 [2 ()] ()]", [[1, [2, []], []]]),
        ("{:a 1, :b [2 3]}", [{"a": 1, "b": [2, 3]}]),
        ("{[1 2] :x}", [{(1, 2): "x"}]),
        ("#{3 1 2}", [[3, 1, 2]]),
        ('#jepsen.history.Op{:index 0} #inst "2020-01-01"', [{"index": 0}, "2020-01-01"]),
        ("#a #b [1]", [[1]]),
        ("1 ; two\n3 ;; end", [1, 3]),
        ("#!shebang\n1", [1]),
        ("#_1 2 [#_3 4] #_[5 6] #_ #_ 7 8 9", [2, [4], 9]),
        ("{:a #_ :gone 1}", [{"a": 1}]),
        (",,1,,2,", [1, 2]),
        ("", []),
        ("  ; only a comment", []),
    ],
)
def test_reads(text, value):
    found = parse(text)
    assert found == value
    assert [type(one) is bool for one in found] == [type(one) is bool for one in value]


def test_keywords_symbols_and_sets_keep_their_kind():
    keyword, symbol, elements = parse(":a a #{1}")
    assert type(keyword) is Keyword
    assert type(symbol) is Symbol
    assert type(elements) is EdnSet


@pytest.mark.parametrize(
    ("text", "line", "about"),
    [
        ("[1\n2", 1, "never closed"),
        ("1\n]", 2, "closes nothing"),
        ("[1\n)", 2, "is closed by"),
        ("{:a}", 1, "no value"),
        ('1\n"open', 2, "never closed"),
        (r'"\q"', 1, "unknown escape"),
        (r"\bogus", 1, "unknown character"),
        ("1\n\n12abc", 3, "not a number"),
        ("1/0", 1, "cannot be used"),
        ("9" * 5000, 1, "cannot be used"),
        ("[#_]", 1, "no form after it"),
        ("#tag", 1, "never closed"),
        ("##Nope", 1, "unknown symbolic"),
        ("#", 1, "unexpected"),
        ("[" * 5000, 1, "nested deeper"),
        ("#_" * 5000, 1, "nested deeper"),
    ],
)
def test_refuses_with_the_line(text, line, about):
    with pytest.raises(EdnError, match=about) as refused:
        parse(text)
    assert refused.value.line == line


def test_nesting_up_to_the_bound_is_read():
    depth = NESTING_MAX - 1
    assert len(parse("[" * depth + "]" * depth)) == 1


def refused_line(text):
    """The line of the refusal; 1 for text that is read."""
    try:
        parse(text)
    except EdnError as error:
        return error.line
    return 1


@given(st.text(alphabet=st.sampled_from(list("()[]{}#_\\\":;,'a1-/.N \n^@`~"))) | st.text())
def test_any_text_is_read_or_refused(text):
    assert 1 <= refused_line(text) <= text.count("\n") + 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.fractions()
    | st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).map(Keyword),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.lists(inner).map(EdnSet),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_reads_back(value):
    assert frozen(parse(dump(value))[0]) == frozen(value)


@given(VALUES, VALUES)
def test_frozen_values_are_equal_just_when_the_values_are(one, other):
    assert hash(frozen(one)) == hash(frozen(parse(dump(one))[0]))
    assert frozen(True) != frozen(1)
    if frozen(one) == frozen(other):
        assert one == other
