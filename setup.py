"""Builds the compiled modules: one list in pyproject.toml, mypyc, and the manifest that vouches for the result.

Rule: the only place that runs mypyc. Without a C compiler, or with DURAKV_COMPILE=0, the package installs as plain
Python and works the same, slower. ``python3 -m tools.dev compile`` runs this file's ``build_ext --inplace``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from durakv import native  # noqa: E402  (the path line above must come first)


def compiled_modules() -> list[str]:
    """The list of pyproject.toml, refusing names without a source file."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names: list[str] = table["tool"]["durakv"]["compiled"]
    missing = [name for name in names if not native.source_of(ROOT, name).exists()]
    if missing:
        raise SystemExit(f"pyproject.toml [tool.durakv] compiled names modules without a source: {', '.join(missing)}")
    return names


def wanted() -> bool:
    """Whether this build compiles: a C compiler is there and nobody said no."""
    if os.environ.get("DURAKV_COMPILE", "1") == "0":
        return False
    return shutil.which(os.environ.get("CC", "gcc").split()[0]) is not None


def extensions() -> list[Any]:
    """One shared library with all modules, so that calls between them stay direct C calls."""
    commands = {"build_ext", "bdist_wheel", "editable_wheel", "build", "install", "develop"}
    if not wanted() or not commands.intersection(sys.argv):
        return []
    from mypyc.build import mypycify  # not needed, and maybe not there, when nothing is compiled

    sources = [str(native.source_of(ROOT, name).relative_to(ROOT)) for name in compiled_modules()]
    # Errors in modules that are not compiled are the type checker's business, not this build's.
    options = ["--follow-imports=silent", "--config-file=pyproject.toml"]
    built = mypycify(
        [*options, *sources],
        opt_level=os.environ.get("DURAKV_OPT_LEVEL", "2"),
        debug_level="0",
        multi_file=True,
        group_name="durakv.native",
        target_dir=str(ROOT / "build"),
    )
    for extension in built:
        # The headers of a group with a dotted name are written below its package; multi-file sources do not say so.
        extension.include_dirs.append(str(ROOT / "build" / "durakv"))
        if os.name == "posix":
            # Nothing outside calls into the library: its own calls need no table, and may be inlined.
            extension.extra_compile_args += ["-fvisibility=hidden", "-fno-plt"]
    return built


class ParallelBuildExt(build_ext):
    """build_ext that compiles the C files of one extension on all cores and then writes the manifest."""

    def run(self) -> None:
        """Build; the manifest is absent meanwhile, and names the sources as they were when the build began."""
        target = ROOT / "durakv" if self.inplace else Path(self.build_lib) / "durakv"
        (target / native.MANIFEST_NAME).unlink(missing_ok=True)
        super().run()
        if self.extensions:
            target.mkdir(parents=True, exist_ok=True)
            native.write_manifest(target, HASHES)

    def build_extensions(self) -> None:
        """Compile the C files of the one extension side by side."""
        compile_files = self.compiler.compile

        def compile_in_parallel(sources: list[str], *args: Any, **kwargs: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                jobs = [pool.submit(compile_files, [source], *args, **kwargs) for source in sources]
                return [path for job in jobs for path in job.result()]

        self.compiler.compile = compile_in_parallel
        super().build_extensions()


# Taken before mypyc reads the sources: an edit during the build must make the result count as stale.
HASHES = {name: native.source_hash(native.source_of(ROOT, name)) for name in compiled_modules()}

setup(ext_modules=extensions(), cmdclass={"build_ext": ParallelBuildExt})
