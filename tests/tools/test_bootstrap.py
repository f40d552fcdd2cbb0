from __future__ import annotations

from pathlib import Path

import pytest

from tools import bootstrap, dev

PROJECT = """
[build-system]
requires = ["setuptools==1"]
[project]
dependencies = ["click==1"]
optional-dependencies = { dev = ["pytest==1"] }
scripts = { durakv = "a:b" }
[tool.setuptools]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def make_installed(root: Path, stamp: str) -> None:
    binaries = root / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("python", *bootstrap.PROGRAMS):
        (binaries / name).touch()
    (root / ".venv" / bootstrap.STAMP_NAME).write_text(stamp)


def test_a_complete_install_is_left_alone(root: Path) -> None:
    make_installed(root, bootstrap.fingerprint(root))
    assert bootstrap.ensure(root) is False


def test_a_changed_pin_or_a_missing_program_asks_for_an_install(root: Path) -> None:
    wanted = bootstrap.fingerprint(root)
    make_installed(root, wanted)
    assert bootstrap.installed(root, wanted)
    (root / "pyproject.toml").write_text(PROJECT.replace("click==1", "click==2"))
    assert not bootstrap.installed(root, bootstrap.fingerprint(root))
    (root / ".venv" / "bin" / "durakv-cli").unlink()
    assert not bootstrap.installed(root, wanted)


def test_the_compiled_list_does_not_ask_for_an_install(root: Path) -> None:
    before = bootstrap.fingerprint(root)
    (root / "pyproject.toml").write_text(PROJECT + '[tool.durakv]\ncompiled = ["a"]\n')
    assert bootstrap.fingerprint(root) == before


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main(["nonsense"]) == 2
    assert "one of: up, test, harness, check" in capsys.readouterr().err


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb}" in text for verb in dev.VERBS)
