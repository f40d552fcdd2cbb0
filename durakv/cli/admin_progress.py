"""A progress bar on standard error, when that is a terminal and nobody asked for JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Gives ``progress(done, total)``, both in bytes."""
    if quiet or not sys.stderr.isatty():
        yield unseen
        return
    from rich.console import Console  # only where a person looks
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=None)

        def progress(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        yield progress


def unseen(done: int, total: int) -> None:
    """Nobody watches."""
