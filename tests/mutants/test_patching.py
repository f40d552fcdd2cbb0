"""A planted bug reaches every name of its function, leaves none behind, and is refused for compiled code."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from jstyle.mutants.patching import replaced


def sample():
    return "sound"


class Holder:
    def method(self):
        return "sound"


def make_modules(monkeypatch):
    home, other = ModuleType("durakv.test_home"), ModuleType("raft.test_other")
    home.sample = sample
    other.imported = sample
    other.table = {"key": sample, "kept": len}
    for module in (home, other):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return home, other


def test_names_and_tables_are_replaced_and_put_back(monkeypatch):
    home, other = make_modules(monkeypatch)
    with replaced(home, "sample", lambda original: lambda: "broken " + original()):
        assert (home.sample(), other.imported(), other.table["key"]()) == ("broken sound",) * 3
        assert other.table["kept"] is len
    assert home.sample is other.imported is other.table["key"] is sample


def test_a_method_is_put_back_even_after_an_error():
    def use_and_fail():
        with replaced(Holder, "method", lambda _: lambda self: "broken"):
            assert Holder().method() == "broken"
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        use_and_fail()
    assert Holder().method() == "sound"


def test_what_is_not_a_python_function_is_refused():
    with pytest.raises(RuntimeError, match="DURAKV_INTERPRETED=1"), replaced(sys, "intern", lambda original: original):
        raise AssertionError("never entered")
