"""``durakv proxy``: one endpoint for plain clients in front of a cluster of many groups.

Rule: the only place that puts a proxy together out of the real world. Exit codes: 0 stopped, 1 could not start (one
line says why), 70 a bug.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    import asyncio
    import ssl

    from durakv.proxy.settings import ProxySettings

EXIT_FAILED: Final = 1
EXIT_BUG: Final = 70
# Files besides clients: connections to nodes, listeners and the like.
_FILES_SPARE: Final = 1024
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("proxy")
@click.option("--node", "nodes", multiple=True, required=True, metavar="HOST:PORT", help="A node; give several.")
@click.option("--listen", default="127.0.0.1:6379", show_default=True, metavar="HOST:PORT", help="For clients.")
@click.option("--metrics", default="", metavar="HOST:PORT", help="Serve /metrics and /health here.")
@click.option("--user", default="", help="Who asks the nodes for their slots.  [default: the default user]")
@click.option("--password-file", type=_FILE, help="That user's password; clients log in with their own.")
@click.option("--availability-zone", default="", help="Prefer replicas of this zone for reads.")
@click.option("--read-from-replicas", is_flag=True, help="Treat every client as if it had sent READONLY.")
@click.option("--connections", type=click.IntRange(1, 64), default=2, show_default=True, help="Per node and identity.")
@click.option("--max-clients", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--max-request-mb", type=click.IntRange(1, 512), default=64, show_default=True,
              help="Largest argument; no more than the nodes' proto-max-bulk-len.")  # fmt: skip
@click.option("--max-unread-mb", type=click.IntRange(2), default=256, show_default=True,
              help="Replies a client may leave unread before it is disconnected.")  # fmt: skip
@click.option("--retry-timeout-ms", type=click.IntRange(0), default=10_000, show_default=True,
              help="How long a request that was not executed is tried again.")  # fmt: skip
@click.option("--answer-timeout-ms", type=click.IntRange(100), default=15_000, show_default=True,
              help="A node that answers nothing for so long loses its connection.")  # fmt: skip
@click.option("--refresh-ms", type=click.IntRange(100), default=10_000, show_default=True, help="Ask for the slots.")
@click.option("--timeout", type=click.IntRange(0), default=0, show_default=True,
              help="Seconds of silence after which a client is disconnected, 0 never.")  # fmt: skip
@click.option("--tls-cert-file", type=_FILE, help="Clients speak TLS to this certificate.")
@click.option("--tls-key-file", type=_FILE, help="Its key.")
@click.option("--tls-ca-cert-file", type=_FILE, help="Clients must show a certificate signed by this one.")
@click.option("--node-tls-ca-cert-file", type=_FILE, help="Nodes speak TLS, their certificates signed by this one.")
@click.option("--node-tls-cert-file", type=_FILE, help="What the proxy shows to nodes.")
@click.option("--node-tls-key-file", type=_FILE, help="Its key.")
def proxy(
    nodes: tuple[str, ...], listen: str, metrics: str, user: str, password_file: Path | None, availability_zone: str,
    read_from_replicas: bool, connections: int, max_clients: int, max_request_mb: int, max_unread_mb: int,
    retry_timeout_ms: int, answer_timeout_ms: int, refresh_ms: int, timeout: int, tls_cert_file: Path | None,
    tls_key_file: Path | None, tls_ca_cert_file: Path | None, node_tls_ca_cert_file: Path | None,
    node_tls_cert_file: Path | None, node_tls_key_file: Path | None,
) -> None:  # fmt: skip
    """Serve plain clients from a cluster: durakv proxy --listen HOST:PORT --node HOST:PORT [--node ...]."""
    from durakv.proxy.settings import ProxySettings
    from durakv.witness.address import host_and_port

    try:
        settings = ProxySettings([host_and_port(node) for node in nodes])
        settings.host, settings.port = host_and_port(listen, port_min=0)
        if metrics:
            settings.metrics_host, settings.metrics_port = host_and_port(metrics, port_min=0)
        password = password_file.read_bytes().strip() if password_file is not None else None
        contexts = _contexts(
            (tls_cert_file, tls_key_file, tls_ca_cert_file),
            (node_tls_cert_file, node_tls_key_file, node_tls_ca_cert_file),
        )
        if (settings.host, settings.port) in settings.seeds:
            raise ValueError(f"--node {listen} is this proxy itself; give nodes of the cluster")
    except (OSError, ValueError) as e:
        raise click.ClickException(str(e)) from e
    settings.availability_zone = availability_zone
    settings.read_from_replicas = read_from_replicas
    settings.lanes = connections
    settings.clients_max = max_clients
    settings.arg_max = max_request_mb << 20
    settings.query_max = 4 * settings.arg_max
    settings.output_max = max_unread_mb << 20
    settings.retry_ms = retry_timeout_ms
    settings.answer_ms = answer_timeout_ms
    settings.refresh_ms = refresh_ms
    settings.idle_s = timeout
    settings.tls_listen = "clients" in contexts
    settings.tls_nodes = "nodes" in contexts
    sys.exit(run(settings, user.encode() or None, password, contexts))


def run(
    settings: ProxySettings, user: bytes | None, password: bytes | None, contexts: dict[str, ssl.SSLContext]
) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    import asyncio
    import gc
    import signal
    import traceback

    import uvloop

    from durakv import __version__, build_mode
    from durakv.proxy.service import Proxy
    from durakv.world.real_clock import RealClock
    from durakv.world.real_network import RealNetwork
    from durakv.world.real_rng import RealRng

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    codes: list[int] = []

    def tell(event: str, text: str) -> None:
        _log(clock.wall_ms(), event, text)

    def end(code: int) -> None:
        codes.append(code)
        loop.stop()

    def crashed(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        tell("crash", f"{context.get('message')}: {error!r}")
        if isinstance(error, BaseException):
            traceback.print_exception(error)
        end(EXIT_BUG)

    _allow_files(settings.clients_max + _FILES_SPARE)
    clock = RealClock(loop)
    proxy = Proxy(RealNetwork(loop, contexts=contexts), clock, RealRng(), settings, tell, user, password)
    try:
        port = proxy.open()
    except OSError as e:
        sys.stderr.write(f"durakv proxy: {_start_text(e, settings)}\n")
        return EXIT_FAILED
    loop.set_exception_handler(crashed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: proxy.stop(lambda: end(0)))
    tell("ready", f"proxy {__version__}, {build_mode()}, port {port}, metrics port {proxy.metrics_port()}")
    gc.collect()
    gc.freeze()
    # Requests hold no cycles: what is left for the collector is little and can wait.
    gc.set_threshold(100_000)
    loop.run_forever()
    _drain(loop)
    tell("stopped", f"exit code {codes[0]}")
    return codes[0]


def _allow_files(wanted: int) -> None:
    """Let the process have so many connections, as far as the system allows."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _drain(loop: asyncio.AbstractEventLoop) -> None:
    """Let closed connections be told so, and end dials nobody waits for."""
    import asyncio

    dials = asyncio.all_tasks(loop)
    for dial in dials:
        dial.cancel()
    if dials:
        loop.run_until_complete(asyncio.wait(dials))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def _contexts(
    clients: tuple[Path | None, Path | None, Path | None], nodes: tuple[Path | None, Path | None, Path | None]
) -> dict[str, ssl.SSLContext]:
    """TLS contexts by the names the proxy asks for. Raises ValueError or OSError (ssl.SSLError)."""
    import ssl

    contexts: dict[str, ssl.SSLContext] = {}
    cert, key, ca = clients
    if cert is not None or key is not None or ca is not None:
        if cert is None or key is None:
            raise ValueError("TLS for clients needs both --tls-cert-file and --tls-key-file")
        context = contexts["clients"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        if ca is not None:
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
    cert, key, ca = nodes
    if cert is not None or key is not None or ca is not None:
        if ca is None:
            raise ValueError("TLS to nodes needs --node-tls-ca-cert-file")
        context = contexts["nodes"] = ssl.create_default_context(cafile=str(ca))
        # Nodes are reached by the addresses the cluster announces, which certificates seldom name.
        context.check_hostname = False
        if cert is not None:
            context.load_cert_chain(cert, key)
    return contexts


def _start_text(error: OSError, settings: ProxySettings) -> str:
    where = f"{settings.host} port {settings.port}"
    if settings.metrics_port >= 0:
        where += f" or, for metrics, {settings.metrics_host} port {settings.metrics_port}"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: another process does; stop it or choose another --listen"
    return f"cannot listen on {where}: {error.strerror or error}; choose another --listen"


def _log(now_ms: int, event: str, text: str) -> None:
    from datetime import UTC, datetime

    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
    sys.stdout.write(f"time={stamp}{now_ms % 1000:03d}Z level=notice event={event} {text}\n")
    sys.stdout.flush()
