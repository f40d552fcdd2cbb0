"""``durakv arbiter``: a process that is nothing but a member of a config holder; for two data nodes, the third voice.
And ``durakv holder``: making members, asking one how it is, putting one in another's place.

Rule: the only place of the command line that puts such a process together out of the real world. Exit codes: 0 stopped
or done, 1 could not be done (one line says why), 2 wrong usage, 70 a bug or damaged files, 73 the directory is another
process's, 74 the disk failed.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import uvloop

from durakv import __version__
from durakv.holder.address import parse_members
from durakv.holder.ask import Done, ask_replacement, ask_status
from durakv.holder.member import HolderMember, found_member, join_member
from durakv.holding import holder_directory
from durakv.storage.errors import StorageError
from durakv.witness.address import host_and_port
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_network import RealNetwork
from durakv.world.real_rng import RealRng

EXIT_FAILED: Final = 1
EXIT_BUG: Final = 70
EXIT_IO: Final = 74
_REPLACE_S: Final = 30.0
_DIR: Final = click.Path(path_type=Path, file_okay=False, resolve_path=True)


class ArbiterError(Exception):
    """Could not be done; the text is one line for a person."""


@click.group()
def holder() -> None:
    """Look after the members of lease mode's config holder."""


@holder.command()
@click.option("--dir", "directory", type=_DIR, required=True, help="The --dir of the arbiter, or of the data node.")
@click.option("--cluster-id", required=True, help="The cluster's id, 32 hex digits.")
@click.option("--id", "member_id", type=click.IntRange(1), required=True, help="An id that no member ever had.")
@click.option("--members", default="", metavar="ID,ID,...", help="All first members' ids, this one among them.")
@click.option("--join", is_flag=True, help="Make a member that is to take another's place instead.")
def create(directory: Path, cluster_id: str, member_id: int, members: str, join: bool) -> None:
    """Make the files of a member, once."""
    try:
        create_now(str(directory), cluster_id, member_id, members, join=join)
    except ArbiterError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Made member {member_id} of the config holder in {directory}")


@holder.command()
@click.argument("at", metavar="HOST:PORT")
def status(at: str) -> None:
    """Show how a member is, an arbiter or one in a data node, as one JSON document."""
    try:
        click.echo(json.dumps(status_of(at), indent=2))
    except ArbiterError as error:
        raise click.ClickException(str(error)) from error


@holder.command()
@click.argument("at", metavar="HOST:PORT")
@click.option("--cluster-id", required=True, help="The cluster's id, 32 hex digits.")
@click.option("--old", "old_id", type=click.IntRange(1), required=True, help="The member that goes.")
@click.option("--new", "new_id", type=click.IntRange(1), required=True, help="The one that was made with --join.")
def replace(at: str, cluster_id: str, old_id: int, new_id: int) -> None:
    """Put a new member in another's place; the member at HOST:PORT must lead, and all must list the new one."""
    try:
        replace_now(at, cluster_id, old_id, new_id)
    except ArbiterError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Member {new_id} of the config holder took the place of member {old_id}")


def create_now(directory: str, cluster_id: str, member_id: int, members: str, *, join: bool = False) -> None:
    """Make the files of a member. Raises ArbiterError."""
    cluster = _cluster_id(cluster_id)
    if bool(members) == join:
        raise ArbiterError("give --members ID,ID,... for a new config holder, or --join for one that runs")
    ids = [] if join else [_member_id(text) for text in members.split(",")]
    disk = RealDisk(lambda fn: fn())
    place = holder_directory(directory)
    try:
        if join:
            join_member(disk, place, cluster, member_id)
        else:
            found_member(disk, place, cluster, member_id, tuple(ids))
    except (StorageError, ValueError, OSError) as error:
        raise ArbiterError(str(error)) from error
    finally:
        disk.close()


def status_of(at: str) -> dict[str, object]:
    """What the member at ``host:port`` reports. Raises ArbiterError."""
    host, port = _address(at)
    text = _asked(lambda network, clock, done: ask_status(network, clock, host, port, done))
    try:
        document = json.loads(text)
    except ValueError as e:
        raise ArbiterError(f"{at} answered, but not as a member of a config holder of this version") from e
    if not isinstance(document, dict):
        raise ArbiterError(f"{at} answered, but not as a member of a config holder of this version")
    return document


def replace_now(at: str, cluster_id: str, old_id: int, new_id: int, timeout_s: float = _REPLACE_S) -> None:
    """Replace a member and wait until the group says so. Raises ArbiterError."""
    host, port = _address(at)
    cluster = _cluster_id(cluster_id)
    deadline = time.monotonic() + timeout_s
    why = _asked(
        lambda network, clock, done: ask_replacement(network, clock, host, port, cluster, old_id, new_id, done)
    )
    if why:
        raise ArbiterError(f"{at}: {why}")
    while True:
        report = status_of(at)
        voters, behind = report.get("voters"), report.get("behind")
        if not isinstance(voters, list) or not isinstance(behind, list):
            raise ArbiterError(f"{at} answered, but not as a member of a config holder of this version")
        if report.get("role") == "leader" and new_id in voters and old_id not in voters and new_id not in behind:
            return
        if time.monotonic() > deadline:
            raise ArbiterError(
                f"member {new_id} has not caught up after {timeout_s:g} s; see that it runs, and that all members list "
                "it, then ask again"
            )
        time.sleep(0.2)


def _address(at: str) -> tuple[str, int]:
    try:
        return host_and_port(at)
    except ValueError as e:
        raise ArbiterError(str(e)) from e


def _cluster_id(text: str) -> bytes:
    try:
        cluster_id = bytes.fromhex(text)
    except ValueError:
        cluster_id = b""
    if len(cluster_id) != 16:
        raise ArbiterError(f"{text!r} is no cluster id; it has 32 hex digits, as cluster-id in the nodes' settings")
    return cluster_id


def _member_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 64):
        raise ArbiterError(f"{text!r} is no member's id; write numbers with commas between them, as 1,2,9")
    return int(text)


def _asked(begin: Callable[[RealNetwork, RealClock, Done], None]) -> str:
    """What one question to a member is answered. Raises ArbiterError."""
    loop = uvloop.new_event_loop()
    try:
        finished: asyncio.Future[tuple[str, OSError | None]] = loop.create_future()
        begin(RealNetwork(loop), RealClock(loop), lambda text, error: finished.set_result((text, error)))
        text, error = loop.run_until_complete(finished)
        # The answer may be known before the task that dialled has noticed.
        dials = asyncio.all_tasks(loop)
        for dial in dials:
            dial.cancel()
        if dials:
            loop.run_until_complete(asyncio.wait(dials))
    finally:
        loop.close()
    if error is not None:
        raise ArbiterError(str(error.strerror))
    return text


def run(directory: str, cluster_id: str, member_id: int, members: Sequence[str], listen: str = "") -> int:
    """Serve until SIGTERM or SIGINT; the exit code. ``listen``: another host:port than ``members`` say."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    clock = RealClock(loop)
    codes: list[int] = []

    def stop(code: int) -> None:
        codes.append(code)
        loop.stop()

    def fatal(error: OSError) -> None:
        _log(clock, f"event=stopped exit code {EXIT_IO}: {error}")
        # The page cache can no longer be believed: nothing may run after this.
        os._exit(EXIT_IO)

    def crashed(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        _log(clock, f"event=crash {context.get('message')}: {error!r}")
        if isinstance(error, BaseException):
            traceback.print_exception(error)
        stop(EXIT_BUG)

    disk = RealDisk(loop.call_soon_threadsafe)
    place = holder_directory(str(Path(directory).absolute()))
    try:
        where = parse_members(members)
        member = HolderMember(
            clock, RealRng(), disk, RealNetwork(loop), place, _cluster_id(cluster_id), member_id, where,
            lambda text: _log(clock, f"event=holder {text}"), fatal,
        )  # fmt: skip
        # Refused by open() when it is not listed.
        host, port = host_and_port(listen, port_min=0) if listen else where.get(member_id, ("127.0.0.1", 0))
        port = member.open(host, port)
    except StorageError as e:
        return _refuse(str(e), e.exit_code)
    except (ArbiterError, ValueError) as e:
        return _refuse(str(e), EXIT_FAILED)
    except OSError as e:
        return _refuse(_start_text(e, listen), EXIT_FAILED)
    loop.set_exception_handler(crashed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stop(0))
    _log(clock, f"event=ready arbiter {__version__}, member {member_id}, port {port}, dir {place}")
    loop.run_forever()
    ended: list[bool] = []
    member.close(lambda: ended.append(True))
    disk.close()
    _log(clock, f"event=stopped exit code {codes[0]}")
    return codes[0]


def _start_text(error: OSError, listen: str) -> str:
    where = listen or "its address among the members"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: another process does; stop it or choose another address"
    return f"cannot listen on {where}: {error.strerror or error}"


def _refuse(text: str, code: int) -> int:
    sys.stderr.write(f"durakv arbiter: {text}\n")
    return code


def _log(clock: RealClock, text: str) -> None:
    now_ms = clock.wall_ms()
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
    sys.stdout.write(f"time={stamp}{now_ms % 1000:03d}Z level=notice {text}\n")
    sys.stdout.flush()
