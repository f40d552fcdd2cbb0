"""One node as an operating system process: settings, event loop, signals, exit codes.

Rule: the only place that ends the process. Exit codes: 0 stopped, 1 usage, 70 a bug or a decision needed, 73 locked,
74 the disk failed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
import sys
import traceback
from functools import partial
from pathlib import Path

import uvloop

import durakv
from durakv.app import World, build
from durakv.checkpoint.place import open_checked
from durakv.config.load import load
from durakv.config.settings import ConfigError, Settings
from durakv.holding import ETCD_TLS
from durakv.observe.events import Notice, Observer
from durakv.observe.log import LineLog
from durakv.storage.errors import StorageError
from durakv.world.real_children import Children
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv
from durakv.world.real_network import RealNetwork
from durakv.world.real_object_store import open_object_store
from durakv.world.real_process import RealProcess
from durakv.world.real_rng import RealRng

EXIT_USAGE = 1
EXIT_IO = 74
EXIT_BUG = 70
_SWITCH_INTERVAL_S = 0.0005
# A stop waits this long for the materialiser to write what it knows, which saves the next start the work.
_LAST_CHECKPOINT_S = 10


def read_text(path: str) -> str:
    """A configuration file's text; ``-`` is standard input. Raises OSError."""
    if path == "-":
        return sys.stdin.read()
    return Path(path).read_text(encoding="utf-8")


def write_line(text: str) -> None:
    """One line of the log to standard output."""
    sys.stdout.write(text)
    sys.stdout.flush()


def report_crash(context: dict[str, object], log: Observer) -> int:
    """Say why the loop ended, given asyncio's ``context`` of the exception; the exit code."""
    error = context.get("exception")
    if isinstance(error, StorageError):
        # The medium is at fault, not the code, and the error says what to do.
        sys.stderr.write(f"durakv: {error}\n")
        return error.exit_code
    log.event(Notice("crash", f"{context.get('message')}: {error!r}"))
    if isinstance(error, BaseException):
        traceback.print_exception(error)
    return EXIT_BUG


def tls_contexts(settings: Settings) -> dict[str, ssl.SSLContext]:
    """By the names under which parts of the node dial. Raises ValueError that names the directives' files."""
    if not settings.holder_etcd_tls:
        return {}
    # Nobody else needs it.
    from durakv.world.real_tls import client_context

    files = (settings.holder_etcd_ca_file, settings.holder_etcd_cert_file, settings.holder_etcd_key_file)
    try:
        return {ETCD_TLS: client_context(*[str(name) for name in files])}
    except ValueError as error:
        raise ValueError(f"holder-etcd-tls: {error}") from error


def run_server(argv: list[str]) -> int:
    """``durakv server [conf] [--directive value ...]``: run one node until it is told to stop; the exit code."""
    try:
        settings = load(argv, read_text)
        contexts = tls_contexts(settings)
    except (ConfigError, ValueError) as e:
        sys.stderr.write(f"durakv: {e}\n")
        return EXIT_USAGE
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    exit_code: list[int] = []

    def stop(code: int) -> None:
        if not exit_code:
            exit_code.append(code)
        if code == EXIT_IO:
            # The page cache can no longer be believed: nothing may run after this, not even a flush.
            os._exit(EXIT_IO)
        loop.stop()

    clock = RealClock(loop)
    disk = RealDisk(loop.call_soon_threadsafe)
    log = LineLog(settings, clock, settings.node_id, write_line)
    network = RealNetwork(loop, backlog=settings.tcp_backlog, keepalive_s=settings.tcp_keepalive, contexts=contexts)
    settings.watch("tcp-keepalive", lambda _: network.set_keepalive(settings.tcp_keepalive))
    witness_disk = RealDisk(loop.call_soon_threadsafe)
    children = Children(loop)
    world = World(
        clock, RealRng(), disk, network, RealProcess(), witness_disk=witness_disk, open_objects=open_object_store,
        open_kv=partial(open_checked, disk, open_kv), spawn=children.spawn,
        holder_disk=RealDisk(loop.call_soon_threadsafe) if settings.replication_mode == "lease" else None,
    )  # fmt: skip
    try:
        app = build(world, settings, log, stop)
    except (StorageError, OSError, ValueError) as e:
        sys.stderr.write(f"durakv: {e}\n")
        return getattr(e, "exit_code", EXIT_USAGE)

    def crashed(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        stop(report_crash(context, log))

    loop.set_exception_handler(crashed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: app.driver.stop(transfer=True, now=False))
    log.node_id = app.engine.node_id
    log.event(Notice("ready", f"port {settings.port}, dir {settings.dir}, {durakv.build_mode()}"))
    # The log thread must not wait a whole default interval (5 ms) for the interpreter after its sync.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.disable()
    loop.run_forever()
    code = exit_code[0] if exit_code else 0
    if code == 0:
        closed: asyncio.Future[OSError | None] = loop.create_future()
        app.close(closed.set_result)
        try:
            error = loop.run_until_complete(asyncio.wait_for(closed, 10))
        except TimeoutError:
            error = OSError("the log could not be closed within 10 s; nothing acknowledged is lost")
        if error is not None:
            sys.stderr.write(f"durakv: {error}\n")
            code = EXIT_IO
    children.see_off(_LAST_CHECKPOINT_S)
    log.event(Notice("stopped", f"exit code {code}"))
    return code
