from __future__ import annotations

from pathlib import Path

import pytest

from tools import tidy

GOOD = '"""One idea."""\n\n\ndef f() -> int:\n    """Reply: 1."""\n    return 1\n'


def whats(name: str, text: str) -> list[str]:
    return [what for _, what in tidy.findings(Path(name), text)]


def test_a_good_file_has_no_findings() -> None:
    assert tidy.findings(Path("durakv/good.py"), GOOD) == []


def test_file_size_at_and_above_the_limit() -> None:
    head = '"""One idea."""\n'
    assert whats("durakv/a.py", head + "x = 1\n" * (tidy.FILE_LINES_MAX - 1)) == []
    assert "601 lines" in whats("durakv/a.py", head + "x = 1\n" * tidy.FILE_LINES_MAX)[0]


def test_documents_have_their_own_limit() -> None:
    assert whats("ARCHITECTURE.md", "line\n" * 200) == []
    assert whats("ARCHITECTURE.md", "line\n" * 201) != []
    assert whats("docs/format.md", "line\n" * 5000) == []


def test_function_size_counts_decorators() -> None:
    def text(body: int) -> str:
        return '"""I."""\n@d\ndef f() -> None:\n' + "    x = 1\n" * body

    assert whats("durakv/a.py", text(tidy.FUNCTION_LINES_MAX - 2)) == []
    assert "function f has 71 lines" in whats("durakv/a.py", text(tidy.FUNCTION_LINES_MAX - 1))[0]


@pytest.mark.parametrize("name", ["durakv/utils.py", "durakv/net_helpers.py", "tools/common/x.py", "raft/base.py"])
def test_names_that_say_nothing(name: str) -> None:
    assert any("says nothing" in what for what in whats(name, GOOD))


@pytest.mark.parametrize("name", ["durakv/database.py", "durakv/commonly.py", "durakv/based.py"])
def test_names_that_only_contain_a_banned_word(name: str) -> None:
    assert whats(name, GOOD) == []


def test_class_names() -> None:
    assert any("SlotManager" in what for what in whats("durakv/a.py", GOOD + "\n\nclass SlotManager:\n    x = 1\n"))


def test_module_docstring_is_needed_outside_tests() -> None:
    bare = "x = 1\n"
    assert any("docstring" in what for what in whats("durakv/a.py", bare))
    assert whats("tests/test_a.py", bare) == []
    assert whats("durakv/__init__.py", "") == []


def test_unfinished_work() -> None:
    marker = "TO" + "DO"
    assert any("unfinished" in what for what in whats("durakv/a.py", GOOD + f"# {marker}: later\n"))


@pytest.mark.parametrize("path", ["../sha" + "red/x", "/wo" + "rk/main", "/ro" + "ot/x", "/ho" + "me/me"])
def test_paths_outside_the_repository(path: str) -> None:
    assert whats("README.md", f"see {path}\n") == ["path outside the repository"]


def test_suppressions_need_a_code() -> None:
    mark = "no" + "qa"
    assert any("suppression" in what for what in whats("durakv/a.py", GOOD + f"x = 1  # {mark}\n"))
    assert whats("durakv/a.py", GOOD + f"x = 1  # {mark}: E501\n") == []
    ignore = "type: " + "ignore"
    assert any("suppression" in what for what in whats("durakv/a.py", GOOD + f"x = 1  # {ignore}\n"))
    assert whats("durakv/a.py", GOOD + f"x = 1  # {ignore}[misc]\n") == []


def test_every_rule_is_run() -> None:
    names = {
        "file_size", "function_size", "names", "module_docstring", "unfinished_work", "outside_paths",
        "bare_suppressions",
    }  # fmt: skip
    assert {rule.__name__ for rule in tidy.RULES} == names
