"""The developer entry: ``python3 -m tools.dev VERB``. Makes what is missing, then runs the verb inside ``.venv``.

Rule: this file and what it imports use the standard library only, so that it works on a machine with nothing but
Python. Every verb first makes sure of the editable install and that no stale compiled module is left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from tools import bootstrap, native_build, system_packages

ROOT = Path(__file__).resolve().parent.parent
HELP = """usage: python3 -m tools.dev VERB [options]

  up [--detach] [--nodes N] [--base-port P] [--dir D]   start a local cluster (durakv cluster up)
  test [pytest options]     the whole suite; the unit tests also with compiled modules off
  harness                   simulated clusters (200 fixed seeds, fresh ones), crash enumeration, planted bugs
  check                     lint, format, types, import contracts, tidy, unit tests
  fast                      lint, format and types of changed files, unit tests
  bench [--quick] [...]     measure durakv beside its peers; writes docs/benchmarks.md
  compile                   compile the modules listed in pyproject.toml
  tidy                      source rules no linter has

Every verb makes .venv with the pinned dependencies when it is missing or out of date.
"""

# Seeds nobody has run before, from the commit's hash.
_FRESH_FROM = 1_000_000
_FRESH_RANGE = 1_000_000_000
_FRESH_SEEDS = 60

# Directories whose code is compiled, or sits directly on compiled code: tested both ways.
UNIT_DIRS = (
    "tests/native", "tests/resp", "tests/keyspace", "tests/storage", "tests/commands", "tests/engine",
    "tests/config", "tests/raft", "tests/acl", "tests/cluster", "tests/observe", "tests/server", "tests/tools",
    "tests/cli",
)  # fmt: skip


def main(argv: list[str]) -> int:
    """Run one verb; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    action = VERBS.get(verb)
    if action is None:
        print(f"unknown verb {verb!r}; one of: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    try:
        bootstrap.ensure(ROOT)
    except bootstrap.BootstrapError as error:
        print(f"tools.dev: {error}", file=sys.stderr)
        return 1
    if not bootstrap.inside(ROOT):
        python = str(bootstrap.venv_python(ROOT))
        sys.stdout.flush()
        os.execv(python, [python, "-m", "tools.dev", *argv])
    return action(rest)


def compiled_names() -> list[str]:
    """The list of pyproject.toml."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names: list[str] = table["tool"]["durakv"]["compiled"]
    return names


def run(*command: str, **environment: str) -> int:
    """Run a program of ``.venv`` (or this interpreter for ``python``) in the repository; returns its exit code."""
    program = sys.executable if command[0] == "python" else str(ROOT / ".venv" / "bin" / command[0])
    print("$", *command, flush=True)
    return subprocess.run([program, *command[1:]], cwd=ROOT, env={**os.environ, **environment}, check=False).returncode


def run_all(*steps: Callable[[], int]) -> int:
    """Run every step although some fail; 1 when any failed, naming how many."""
    failed = sum(1 for step in steps if step() != 0)
    if failed:
        print(f"{failed} of {len(steps)} steps failed")
    return 1 if failed else 0


def present(paths: tuple[str, ...]) -> list[str]:
    """Those of the test directories that exist and hold tests."""
    return [path for path in paths if any((ROOT / path).rglob("test_*.py"))]


def up(rest: list[str]) -> int:
    """Start a cluster in the foreground or, with --detach, behind it."""
    native_build.settle(ROOT, compiled_names(), rebuild=True)
    durakv = str(ROOT / ".venv" / "bin" / "durakv")
    os.execv(durakv, [durakv, "cluster", "up", *rest])


def test(rest: list[str]) -> int:
    """The unit tests interpreted, then the whole suite as it is shipped; pytest's closing line is the last line."""
    for line in system_packages.ensure(ROOT):
        print(line, flush=True)
    if not native_build.settle(ROOT, compiled_names(), rebuild=True):
        return 1
    if rest:
        return run("python", "-m", "pytest", *rest)
    units = present(UNIT_DIRS)
    if units and native_build.current(ROOT, compiled_names()):
        code = run("python", "-m", "pytest", "-q", *units, DURAKV_INTERPRETED="1")
        if code != 0:
            return code
    return run("python", "-m", "pytest", "-q", "--durations=15")


def harness(rest: list[str]) -> int:
    """The correctness harness as a gate: every step must find what it should and nothing else."""
    del rest
    native_build.settle(ROOT, compiled_names(), rebuild=False)
    chance = commit_number()
    fresh = _FRESH_FROM + chance % _FRESH_RANGE
    return run_all(
        lambda: run("jstyle", "sim", "--seeds", "0:200", "-j2"),
        lambda: run("jstyle", "sim", "--seeds", f"{fresh}:{fresh + _FRESH_SEEDS}", "-j2"),
        lambda: run("jstyle", "crash", "--subsets", "20"),
        lambda: run("jstyle", "mutants", "--quick", "--rotation", str(chance % 1000)),
    )


def commit_number() -> int:
    """A number that follows from the commit, so that what chance chose here can be chosen again; 0 without git."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True)
    return int(done.stdout[:8], 16) if done.returncode == 0 else 0


def check(rest: list[str]) -> int:
    """Everything a change must pass before the long suite: lint, format, types, contracts, tidy, unit tests."""
    native_build.settle(ROOT, compiled_names(), rebuild=False)
    return run_all(
        lambda: run("ruff", "check", "."),
        lambda: run("ruff", "format", "--check", "--quiet", "."),
        lambda: run("mypy"),
        lambda: run("lint-imports"),
        lambda: run("python", "-m", "tools.tidy"),
        lambda: run("python", "-m", "pytest", "-q", "-m", "not live and not slow", *present(UNIT_DIRS), *rest),
    )


def fast(rest: list[str]) -> int:
    """The inner loop: lint and types of what changed since the last commit, then the unit tests."""
    native_build.settle(ROOT, compiled_names(), rebuild=False)
    files = changed_files()
    steps: list[Callable[[], int]] = []
    if files:
        steps = [
            lambda: run("ruff", "check", *files),
            lambda: run("ruff", "format", "--check", "--quiet", *files),
            lambda: run("mypy", *files),
        ]
    units = present(UNIT_DIRS)
    steps.append(lambda: run("python", "-m", "pytest", "-q", "-x", "-m", "not live and not slow", *units, *rest))
    return run_all(*steps)


def changed_files() -> list[str]:
    """Python files that differ from HEAD or are new, relative to the repository."""
    listed: list[str] = []
    for command in (["git", "diff", "--name-only", "HEAD"], ["git", "ls-files", "--others", "--exclude-standard"]):
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            listed += done.stdout.split("\n")
    return sorted({name for name in listed if name.endswith(".py") and (ROOT / name).exists()})


def bench(rest: list[str]) -> int:
    """Measure; peers come from the system, durakv as compiled as it can be."""
    for line in system_packages.ensure(ROOT):
        print(line, flush=True)
    if not native_build.settle(ROOT, compiled_names(), rebuild=True):
        return 1
    return run("python", "-m", "tools.bench", *rest)


def compile_(rest: list[str]) -> int:
    """Compile now; without options only when something changed, with --force always."""
    if native_build.current(ROOT, compiled_names()) and "--force" not in rest:
        print("Compiled modules are up to date")
        return 0
    if native_build.compiler() is None:
        print("No C compiler found: install gcc and the Python headers (Debian: apt-get install gcc python3-dev)")
        return 1
    return 0 if native_build.build(ROOT) else 1


def tidy(rest: list[str]) -> int:
    """Source rules."""
    native_build.settle(ROOT, compiled_names(), rebuild=False)
    return run("python", "-m", "tools.tidy", *rest)


VERBS: dict[str, Callable[[list[str]], int]] = {
    "up": up,
    "test": test,
    "harness": harness,
    "check": check,
    "fast": fast,
    "bench": bench,
    "compile": compile_,
    "tidy": tidy,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
