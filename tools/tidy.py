"""Source rules no linter has: sizes, names that hide a missing idea, unfinished work, paths that leave the repository.

Rule: every rule is a function from one file's text to findings, so that a test can show each of them failing.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
DOCUMENT_LINES_MAX = {"ARCHITECTURE.md": 200}
BANNED_STEMS = ("utils", "util", "helpers", "helper", "manager", "managers", "base", "common", "misc")
TEXT_SUFFIXES = (".py", ".md", ".toml", ".txt", ".sh", ".js", ".json", ".conf", ".cfg", ".yml", ".service", "")

_STEM_WORD = re.compile(rf"(?:^|_)(?:{'|'.join(BANNED_STEMS)})(?:_|$)")
_CLASS_WORD = re.compile(r"(?:Utils?|Helpers?|Manager)$")
# Spelt in pieces, so that this file passes its own rules.
_UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
_OUTSIDE_PATH = re.compile(r"(?:\.\./sha" + r"red\b|/wo" + r"rk/|/ro" + r"ot/|/ho" + r"me/[a-z])")
_BARE_IGNORE = re.compile(r"#\s*(?:type:\s*ignore(?!\[)|no" + r"qa(?!:))")

Finding = tuple[int, str]
Rule = Callable[[Path, str], Iterator[Finding]]


def file_size(path: Path, text: str) -> Iterator[Finding]:
    """Python files stay readable in one sitting; some documents have their own bound."""
    limit = DOCUMENT_LINES_MAX.get(path.name, FILE_LINES_MAX if path.suffix == ".py" else 0)
    count = text.count("\n")
    if limit and count > limit:
        yield limit, f"{count} lines, at most {limit}: split it by idea"


def function_size(path: Path, text: str) -> Iterator[Finding]:
    """No function is longer than a screen."""
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = (node.end_lineno or first) - first + 1
            if length > FUNCTION_LINES_MAX:
                yield first, f"function {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def names(path: Path, text: str) -> Iterator[Finding]:
    """A file or class is named for its idea."""
    if path.suffix != ".py":
        return
    for part in (*path.parent.parts, path.stem):
        if _STEM_WORD.search(part.lower()):
            yield 1, f"name {part!r} says nothing: name it for what it holds"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and _CLASS_WORD.search(node.name):
            yield node.lineno, f"class {node.name} says nothing: name it for what it is"


def module_docstring(path: Path, text: str) -> Iterator[Finding]:
    """A module begins with its one idea. Test modules and empty package files need none."""
    if path.suffix != ".py" or path.parts[:1] == ("tests",) or not text.strip():
        return
    if ast.get_docstring(ast.parse(text)) is None:
        yield 1, "no module docstring: say the one idea of the file"


def unfinished_work(path: Path, text: str) -> Iterator[Finding]:
    """What is not done is an issue, not a comment."""
    for number, line in enumerate(text.split("\n"), 1):
        if path.suffix == ".py" and _UNFINISHED.search(line) and "#" in line:
            yield number, "unfinished-work marker: finish it or file an issue"


def outside_paths(path: Path, text: str) -> Iterator[Finding]:
    """The repository knows no machine it was written on."""
    for number, line in enumerate(text.split("\n"), 1):
        if _OUTSIDE_PATH.search(line):
            yield number, "path outside the repository"


def bare_suppressions(path: Path, text: str) -> Iterator[Finding]:
    """A suppression names what it suppresses."""
    for number, line in enumerate(text.split("\n"), 1):
        if path.suffix == ".py" and _BARE_IGNORE.search(line):
            yield number, "suppression without a code: name the rule in brackets or after a colon"


RULES: tuple[Rule, ...] = (
    file_size,
    function_size,
    names,
    module_docstring,
    unfinished_work,
    outside_paths,
    bare_suppressions,
)


def findings(path: Path, text: str) -> list[Finding]:
    """All findings of one file; ``path`` is relative to the repository."""
    return [finding for rule in RULES for finding in rule(path, text)]


def sources(root: Path) -> list[Path]:
    """The files of the repository that are or would be committed, relative to it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    found = {Path(name) for name in done.stdout.split("\0") if name}
    return sorted(path for path in found if path.suffix in TEXT_SUFFIXES and (root / path).is_file())


def main() -> int:
    """Check the repository around this file; prints ``path:line: what`` and returns 1 when there is any."""
    root = Path(__file__).resolve().parent.parent
    count = 0
    for path in sources(root):
        try:
            text = (root / path).read_text()
        except UnicodeDecodeError:
            continue
        for line, what in findings(path, text):
            print(f"{path}:{line}: {what}")
            count += 1
    print(f"tidy: {count} findings" if count else "tidy: clean")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
