"""``durakv witness``: run a witness process, ask one how it is, found a witness's state.

Rule: the only place of the command line that puts a witness together out of the real world. Exit codes: 0 stopped or
done, 1 could not be done (one line says why), 70 a bug, 73 the directory is another process's, 74 the disk failed.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from durakv import __version__
from durakv.witness.address import WitnessAddress, host_and_port
from durakv.witness.call import ask_status
from durakv.witness.link import create_state
from durakv.witness.parts import CLUSTER_ID_BYTES, StateKey, WitnessParts
from durakv.witness.service import DirectoryLockedError, WitnessService
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_network import RealNetwork
from durakv.world.real_object_store import open_object_store
from durakv.world.real_rng import RealRng

EXIT_FAILED: Final = 1
EXIT_BUG: Final = 70
EXIT_LOCKED: Final = 73
EXIT_IO: Final = 74
_NS_PER_MS: Final = 1_000_000


class WitnessError(Exception):
    """Could not be done; the text is one line for a person."""


def run(listen: str, directory: str) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    try:
        host, port = host_and_port(listen, port_min=0)
    except ValueError as e:
        return _refuse(f"--listen: {e}", EXIT_FAILED)
    directory = str(Path(directory).absolute())
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
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

    clock = RealClock(loop)
    disk = RealDisk(loop.call_soon_threadsafe)
    service = WitnessService(
        clock, RealRng(), disk, RealNetwork(loop), directory, lambda text: _log(clock, f"event={text}"), fatal
    )
    try:
        port = service.open(host, port)
        states = len(service.states())
    except DirectoryLockedError as e:
        return _refuse(str(e), EXIT_LOCKED)
    except OSError as e:
        return _refuse(_start_text(e, listen, directory), EXIT_FAILED)
    loop.set_exception_handler(crashed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stop(0))
    _log(clock, f"event=ready witness {__version__}, port {port}, dir {directory}, {states} states")
    loop.run_forever()
    service.close()
    disk.close()
    _log(clock, f"event=stopped exit code {codes[0]}")
    return codes[0]


def status(at: str) -> dict[str, object]:
    """What the process at ``host:port`` reports. Raises WitnessError."""
    try:
        host, port = host_and_port(at)
    except ValueError as e:
        raise WitnessError(str(e)) from e
    texts: list[str] = []

    def begin(parts: WitnessParts, done: Callable[[OSError | None], None]) -> None:
        def heard(text: str, error: OSError | None) -> None:
            texts.append(text)
            done(error)

        ask_status(parts.network, parts.clock, host, port, parts.tls, heard)

    _until_done(begin)
    try:
        document = json.loads(texts[0])
    except ValueError as e:
        raise WitnessError(f"{at} answered, but not as a witness of this version") from e
    if not isinstance(document, dict):
        raise WitnessError(f"{at} answered, but not as a witness of this version")
    return document


def create_now(address: str, cluster_id: bytes, group: int, witness_id: int) -> None:
    """Found a witness's state and wait until that is durable: link.create_state() for who has no event loop.

    Raises WitnessError, also when the id has or had a state there.
    """
    if len(cluster_id) != CLUSTER_ID_BYTES or group < 0 or not 0 < witness_id < 1 << 64:
        raise WitnessError("a cluster id has 32 hex digits, a group is 0 or more, a witness id is 1 or more")
    try:
        parsed = WitnessAddress.parse(address)
    except ValueError as e:
        raise WitnessError(str(e)) from e
    key = StateKey(cluster_id, group, witness_id)
    _until_done(lambda parts, done: create_state(parsed, parts, key, done))


def _until_done(begin: Callable[[WitnessParts, Callable[[OSError | None], None]], None]) -> None:
    """Run one thing that calls back. Raises WitnessError for what it reports."""
    loop = uvloop.new_event_loop()
    disk = RealDisk(loop.call_soon_threadsafe)
    try:
        finished: asyncio.Future[OSError | None] = loop.create_future()
        parts = WitnessParts(RealClock(loop), RealRng(), RealNetwork(loop), disk, open_object_store)
        begin(parts, finished.set_result)
        error = loop.run_until_complete(finished)
        # A dial that is under way when the answer is known, by another way, has nobody to tell any more.
        dials = asyncio.all_tasks(loop)
        for dial in dials:
            dial.cancel()
        if dials:
            loop.run_until_complete(asyncio.wait(dials))
    finally:
        disk.close()
        loop.close()
    if error is not None:
        raise WitnessError(error.strerror or str(error)) from error


def _start_text(error: OSError, listen: str, directory: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {listen}: another process does; stop it or choose another --listen"
    if error.errno == errno.EADDRNOTAVAIL or error.filename is None:
        return f"cannot listen on {listen}: {error.strerror or error}"
    return f"cannot use --dir {directory}: {error.strerror}; give a directory this user may write to"


def _refuse(text: str, code: int) -> int:
    sys.stderr.write(f"durakv witness: {text}\n")
    return code


def _log(clock: RealClock, text: str) -> None:
    now_ms = clock.wall_ms()
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
    sys.stdout.write(f"time={stamp}{now_ms % 1000:03d}Z level=notice {text}\n")
    sys.stdout.flush()
