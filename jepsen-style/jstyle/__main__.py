"""The ``jstyle`` program: for now it names its version and says what the harness package holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from durakv import __version__, build_mode


@click.group(invoke_without_command=True)
@click.version_option(__version__, prog_name="jstyle")
@click.pass_context
def program(context: click.Context) -> None:
    """Correctness harness of durakv: simulation, live clusters, workloads, checkers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@program.command()
def info() -> None:
    """Show which durakv would be tested and which parts of the harness are installed."""
    here = Path(__file__).resolve().parent
    parts = sorted(path.stem for path in here.iterdir() if path.suffix == ".py" and not path.stem.startswith("_"))
    parts += sorted(f"{path.name}/" for path in here.iterdir() if (path / "__init__.py").exists())
    click.echo(f"durakv {__version__}, {build_mode()}")
    click.echo(f"harness parts: {', '.join(parts) if parts else 'none installed yet'}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program with ``argv`` (default: the process's arguments); exits the process."""
    program.main(args=None if argv is None else list(argv), prog_name="jstyle")


if __name__ == "__main__":
    main()
