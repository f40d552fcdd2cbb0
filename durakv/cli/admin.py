"""The ``durakv-cli`` program: administration of data directories, and data in and out.

Rule: each verb lives in a module of its own beside this; here they only get their names.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

import click

from durakv import __version__, build_mode
from durakv.cli.admin_export import export
from durakv.cli.admin_import import import_
from durakv.cli.recovery_backup import backup
from durakv.cli.recovery_bench import bench_disk
from durakv.cli.recovery_compare import diff, digest_
from durakv.cli.recovery_dump import log_
from durakv.cli.recovery_inspect import inspect_, space
from durakv.cli.recovery_recover import recover
from durakv.cli.recovery_repair import repair
from durakv.cli.recovery_restore import restore
from durakv.cli.recovery_truncate import truncate
from durakv.cli.recovery_verify import verify

_LIBRARIES: Final = ("click", "crc32c", "hiredis", "lmdb", "rich", "uvloop")


@click.group()
@click.version_option(__version__, prog_name="durakv-cli")
def program() -> None:
    """Administer durakv data directories; bring data in and out."""


@program.command()
def info() -> None:
    """Show what is installed: durakv, Python, compiled modules, libraries."""
    click.echo(f"durakv     {__version__}, {build_mode()}")
    click.echo(f"python     {platform.python_version()} ({sys.executable})")
    click.echo(f"platform   {platform.platform()}")
    for name in _LIBRARIES:
        click.echo(f"{name:<10} {version(name)}")


for verb in (
    backup,
    bench_disk,
    diff,
    digest_,
    export,
    import_,
    inspect_,
    log_,
    recover,
    repair,
    restore,
    space,
    truncate,
    verify,
):
    program.add_command(verb)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program with ``argv`` (default: the process's arguments); exits the process."""
    program.main(args=None if argv is None else list(argv), prog_name="durakv-cli")


if __name__ == "__main__":
    main()
