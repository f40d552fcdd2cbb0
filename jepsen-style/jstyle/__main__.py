"""The ``jstyle`` program: one subcommand per file of ``jstyle/cli``, loaded when it is asked for.

Exit codes: 0 all true, 1 something is false, 2 unknown or skipped, 3 the harness itself failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from durakv import __version__, build_mode


class OnDemand(click.Group):
    """Subcommand NAME is the click command ``command`` of ``jstyle.cli.NAME``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        here = Path(__file__).resolve().parent / "cli"
        return sorted(path.stem for path in here.glob("*.py") if not path.stem.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"jstyle.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=OnDemand)
@click.version_option(f"{__version__}, durakv is {build_mode()}", prog_name="jstyle")
def program() -> None:
    """Correctness harness of durakv: simulation, checkers, crash enumeration, planted bugs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program with ``argv`` (default: the process's arguments); exits the process."""
    program.main(args=None if argv is None else list(argv), prog_name="jstyle")


if __name__ == "__main__":
    main()
