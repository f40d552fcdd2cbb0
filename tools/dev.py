"""The developer entry: ``python3 -m tools.dev VERB``. Makes what is missing, then runs the verb inside ``.venv``.

Rule: this file and what it imports use the standard library only, so that it works on a machine with nothing but
Python. Every verb first makes sure of the editable install and that no stale compiled module is left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from tools import bootstrap, native_build, system_packages
from tools.stages import Stage, run_stages

ROOT = Path(__file__).resolve().parent.parent
HELP = """usage: python3 -m tools.dev VERB [options]

  up [--detach] [--nodes N] [--base-port P] [--dir D]   start a local cluster (durakv cluster up)
  test [pytest options]     the whole suite and the harness; what is compiled is also tested interpreted
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
# Seeds in which slots move between groups.
_SEVERAL_GROUPS = ("--shape", "groups", "--seeds", "0:10", "--time", "10")
_LEASE_MODE = ("--shape", "lease", "--seeds", "0:8", "--time", "20")
# Exit code of jstyle: nothing is wrong, but something could not be tried here.
_UNTESTED = 2

# Directories whose code is compiled: tested both ways.
COMPILED_DIRS = (
    "tests/resp", "tests/keyspace", "tests/storage", "tests/commands", "tests/engine", "tests/raft", "tests/observe",
    "tests/cluster",
)  # fmt: skip
# Those that measure time or need the machine's ports and files for themselves, so that nothing runs beside them.
ALONE_DIRS = ("tests/native", "tests/server", "tests/live", "tests/conformance")
# A file among others that cannot stand a busy machine: a stock server's replies are awaited for a fixed time.
ALONE_FILES = ("tests/engine/test_blocking_reference.py",)
# Tests that put something wrong in the place of compiled code, which only interpreted code lets them.
REPLACING_FILES = ("tests/sim/test_lease.py",)
_COMPILED_ALONE_DIRS = ("tests/native", "tests/server")
# What is run while one works: everything but whole clusters.
UNIT_DIRS = (
    *COMPILED_DIRS,
    *_COMPILED_ALONE_DIRS,
    "tests/config",
    "tests/acl",
    "tests/tools",
    "tests/cli",
)
# Side by side, a file at a time, so that what a file's tests share is made once.
_BESIDE = ("-n", str(os.cpu_count() or 1), "--dist", "loadfile", *(f"--ignore={name}" for name in ALONE_FILES))


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
    began_s = time.monotonic()
    try:
        if bootstrap.ensure(ROOT):
            print(f"Installed in {time.monotonic() - began_s:.0f} s")
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
    """Every stage of CI; with options one pytest run with these. pytest's closing line is the last line."""
    for line in system_packages.ensure(ROOT):
        print(line, flush=True)
    if not native_build.settle(ROOT, compiled_names(), rebuild=True):
        return 1
    if rest:
        return run("python", "-m", "pytest", *rest)
    stages = [
        Stage("servers and clusters", lambda: pytest(*present(ALONE_DIRS), *ALONE_FILES)),
        *harness_stages(),
        Stage("all other tests", lambda: pytest(*others(), "--durations=15", *_BESIDE)),
    ]
    if native_build.current(ROOT, compiled_names()):
        stages.insert(0, Stage("compiled modules, interpreted", interpreted))
    return run_stages(stages)


def pytest(*arguments: str, **environment: str) -> int:
    """One run of pytest."""
    return run("python", "-m", "pytest", "-q", *arguments, **environment)


def interpreted() -> int:
    """The tests of what is compiled, without a compiled module.

    Long comparisons with a stock server are left to the compiled run: what they compare is the same code.
    """
    return max(
        pytest(
            *present(COMPILED_DIRS), *REPLACING_FILES, *_BESIDE, "-m", "not live and not slow", DURAKV_INTERPRETED="1"
        ),
        pytest(*present(_COMPILED_ALONE_DIRS), DURAKV_INTERPRETED="1"),
    )


def others() -> list[str]:
    """Every test directory that may run beside others."""
    found = sorted(f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if path.is_dir())
    return present(tuple(name for name in found if name not in ALONE_DIRS))


def harness(rest: list[str]) -> int:
    """The correctness harness as a gate: every step must find what it should and nothing else."""
    del rest
    native_build.settle(ROOT, compiled_names(), rebuild=False)
    return run_stages(harness_stages())


def harness_stages() -> list[Stage]:
    """Simulated clusters, crash enumeration, planted bugs."""
    chance = commit_number()
    fresh = _FRESH_FROM + chance % _FRESH_RANGE
    jobs = f"-j{os.cpu_count() or 1}"
    # A run whose few operations could show nothing is no failure, many of them are.
    unknown = ("--unknown", "5")
    return [
        Stage("200 fixed seeds", lambda: run("jstyle", "sim", "--seeds", "0:200", jobs, *unknown)),
        Stage(
            f"{_FRESH_SEEDS} fresh seeds",
            lambda: run("jstyle", "sim", "--seeds", f"{fresh}:{fresh + _FRESH_SEEDS}", jobs, *unknown),
        ),
        Stage("10 fixed seeds of several groups", lambda: run("jstyle", "sim", *_SEVERAL_GROUPS, jobs, *unknown)),
        Stage("8 fixed seeds of lease mode", lambda: run("jstyle", "sim", *_LEASE_MODE, jobs, *unknown)),
        Stage("crash enumeration", lambda: crash(jobs)),
        Stage("planted bugs", lambda: run("jstyle", "mutants", "--quick", jobs, "--rotation", str(chance % 1000))),
    ]


def crash(jobs: str) -> int:
    """Crash enumeration; where strace may not watch, that no call escapes the recorder goes untested, and is said."""
    code = run("jstyle", "crash", "--subsets", "20", jobs)
    return 0 if code == _UNTESTED else code


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
