from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import durakv
from durakv import native

ROOT = Path(__file__).resolve().parents[2]
LISTED: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["durakv"]["compiled"]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A tree that looks as if durakv.a had been compiled."""
    (tmp_path / "durakv").mkdir()
    native.source_of(tmp_path, "durakv.a").write_text("x = 1\n")
    for name in ("durakv.a", native.SHARED_LIBRARY):
        native.extension_of(tmp_path, name).touch()
    hashes = {"durakv.a": native.source_hash(native.source_of(tmp_path, "durakv.a"))}
    native.write_manifest(tmp_path / "durakv", hashes)
    return tmp_path


def test_a_matching_build_is_used(built: Path) -> None:
    verdict = native.judge(built, {})
    assert verdict.usable
    assert verdict.describe() == "compiled (1 modules)"


def test_a_changed_source_is_not(built: Path) -> None:
    native.source_of(built, "durakv.a").write_text("x = 2\n")
    verdict = native.judge(built, {})
    assert not verdict.usable
    assert verdict.listed == ("durakv.a",)
    assert "durakv.a changed" in verdict.describe()


def test_a_missing_extension_or_source_is_not(built: Path) -> None:
    native.extension_of(built, "durakv.a").unlink()
    assert "was not built" in native.judge(built, {}).describe()
    native.extension_of(built, "durakv.a").touch()
    native.source_of(built, "durakv.a").unlink()
    assert not native.judge(built, {}).usable


def test_another_interpreters_build_is_not(built: Path) -> None:
    path = built / "durakv" / native.MANIFEST_NAME
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "suffix": ".cpython-27.so"}))
    assert "cpython-27" in native.judge(built, {}).describe()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"modules": 3, "suffix": ""}', "\x00"])
def test_a_damaged_manifest_is_not(built: Path, text: str) -> None:
    (built / "durakv" / native.MANIFEST_NAME).write_text(text)
    verdict = native.judge(built, {})
    assert not verdict.usable
    assert verdict.listed == ("durakv.a",)


def test_extensions_without_manifest_are_found_and_not_used(built: Path) -> None:
    (built / "durakv" / native.MANIFEST_NAME).unlink()
    verdict = native.judge(built, {})
    assert not verdict.usable
    assert verdict.listed == ("durakv.a",)


def test_interpreted_on_request(built: Path) -> None:
    assert not native.judge(built, {native.INTERPRETED_VARIABLE: "1"}).usable
    assert native.judge(built, {native.INTERPRETED_VARIABLE: "0"}).usable


def test_the_finder_prefers_the_source(built: Path) -> None:
    finder = native.SourcePreferred(built, ["durakv.a"])
    spec = finder.find_spec("durakv.a", None)
    assert spec is not None
    assert spec.origin == str(built / "durakv" / "a.py")
    assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
    assert finder.find_spec("durakv.b", None) is None


def test_every_listed_module_exists_once() -> None:
    assert LISTED
    assert len(set(LISTED)) == len(LISTED)
    assert [name for name in LISTED if not native.source_of(ROOT, name).exists()] == []


@pytest.mark.parametrize("interpreted", [False, True])
def test_listed_modules_come_from_where_the_mode_says(interpreted: bool) -> None:
    verdict = native.judge(ROOT, {})
    if not interpreted and (not verdict.usable or set(verdict.listed) != set(LISTED)):
        pytest.skip(f"not compiled here (tools.dev test compiles first): {verdict.describe()}")
    code = (
        "import importlib, json, sys, durakv\n"
        f"files = {{n: importlib.import_module(n).__file__ for n in {LISTED!r}}}\n"
        "json.dump([durakv.build_mode(), files], sys.stdout)\n"
    )
    environment = {**os.environ, native.INTERPRETED_VARIABLE: "1" if interpreted else ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, check=True)
    mode, files = json.loads(done.stdout)
    suffix = ".py" if interpreted else importlib.machinery.EXTENSION_SUFFIXES[0]
    # mypyc guesses the directory in __file__ when one compiled module imports another, so only the end is compared.
    wrong = {name: file for name, file in files.items() if not file.endswith(name.replace(".", "/") + suffix)}
    assert wrong == {}
    if interpreted:
        assert mode in ("interpreted (DURAKV_INTERPRETED is set)", "interpreted (no compiled modules are installed)")
    else:
        assert mode == f"compiled ({len(LISTED)} modules)"


def test_the_mode_of_this_process_is_told() -> None:
    assert durakv.build_mode().startswith(("compiled (", "interpreted ("))
