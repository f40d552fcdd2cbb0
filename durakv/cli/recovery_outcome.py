"""How the recovery commands end: one line for an error, one JSON document when asked, an exit code that means
something.

Rule: the only place that maps what went wrong to an exit code (docs/recovery.md); usage errors exit 1, because 2 says
that damage was found.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from durakv.checkpoint.damage import CheckpointDamaged
from durakv.cli.admin_files import locked
from durakv.storage.errors import (
    EXIT_IO,
    EXIT_NEEDS_DECISION,
    EXIT_USAGE,
    CorruptionError,
    DirectoryLocked,
    StorageError,
)

EXIT_CLEAN: Final = 0
EXIT_DAMAGED: Final = 2
EXIT_REPAIRED: Final = 3

DATA: Final = click.Path(path_type=Path, file_okay=False, exists=True)
more_option = click.option(
    "--archive",
    "--backup",
    "more",
    multiple=True,
    type=click.Path(file_okay=False, exists=True),
    help="More of the log: archive-dir, a backup, or another node's data directory. May be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
databases_option = click.option(
    "--databases", type=click.IntRange(1, 1 << 20), default=16, show_default=True,
    help="As in the server's configuration.",
)  # fmt: skip


class NeedsDecision(StorageError):
    """Nothing was changed, because a person must choose."""


class _WrongUsage(click.UsageError):
    exit_code = EXIT_USAGE


class RecoveryCommand(click.Command):
    """A command whose usage errors exit 1, and whose known errors are one line and an exit code."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise _WrongUsage(error.format_message(), error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _WrongUsage(error.format_message(), error.ctx) from None
        except CorruptionError as error:
            fail(
                f"{error.path}: damaged at byte {error.offset}: {error.detail}; 'durakv-cli verify' on its data "
                "directory says what to do",
                EXIT_DAMAGED,
            )
        except CheckpointDamaged as error:
            fail(
                f"checkpoint damaged: {error.where}: {error.detail}; 'durakv-cli verify' on its data directory says "
                "what to do",
                EXIT_DAMAGED,
            )
        except StorageError as error:
            fail(str(error), error.exit_code)
        except FileExistsError as error:
            fail(str(error), EXIT_USAGE)
        except BrokenPipeError:
            # Who reads has seen enough, as with "| head".
            sys.stderr.close()
            sys.exit(EXIT_CLEAN)
        except OSError as error:
            fail(f"{error}; check the disk, the path and this user's permissions", EXIT_IO)


def fail(text: str, exit_code: int) -> NoReturn:
    """One line on standard error, then the end."""
    click.echo(f"Error: {text}", err=True)
    sys.exit(exit_code)


def show_json(document: dict[str, object]) -> None:
    """One document on one line."""
    click.echo(json.dumps(document))


def when(unix_ms: int) -> str:
    """A time as people write it, in UTC; "-" for none."""
    if not unix_ms:
        return "-"
    moment = dt.datetime.fromtimestamp(unix_ms / 1000, tz=dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z"


def size_of(count: int) -> str:
    """Bytes as people read them."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{count:,} bytes" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def is_live(directory: Path) -> bool:
    """Whether another process has the directory now."""
    if not (directory / "LOCK").exists():
        return False
    try:
        with locked(directory):
            return False
    except DirectoryLocked:
        return True


@contextlib.contextmanager
def held_if_free(directory: Path) -> Iterator[bool]:
    """Keep servers off if none is on; gives whether one is."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(directory))
        except DirectoryLocked:
            yield True
            return
        yield False


__all__ = [
    "DATA", "EXIT_CLEAN", "EXIT_DAMAGED", "EXIT_IO", "EXIT_NEEDS_DECISION", "EXIT_REPAIRED", "EXIT_USAGE",
    "NeedsDecision", "RecoveryCommand", "databases_option", "fail", "held_if_free", "is_live", "json_option",
    "more_option", "show_json", "size_of", "when",
]  # fmt: skip
