"""The ``durakv`` click program: options, printing and exit codes of ``durakv cluster``.

Rule: no decision is made here. Exit codes: 0 done, 1 could not be done (one line says why), 2 wrong usage.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from durakv import __version__, build_mode
from durakv.cli import layout, operations, processes, status
from durakv.cli.layout import HOST, Cluster

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_DIR = "durakv-data"
PASSTHROUGH = {"ignore_unknown_options": True}


@contextmanager
def explained() -> Iterator[None]:
    """Turn expected failures into one line and exit code 1."""
    try:
        yield
    except (layout.LayoutError, operations.OperationError) as error:
        raise click.ClickException(str(error)) from error


def dir_option(command: Command) -> Command:
    """``--dir``: the cluster's directory."""
    kind = click.Path(path_type=Path, file_okay=False, resolve_path=True)
    return click.option("--dir", "root", type=kind, default=DEFAULT_DIR, show_default=True, help="Cluster directory.")(
        command
    )


def password_option(command: Command) -> Command:
    """``--password``: for clusters with requirepass."""
    return click.option(
        "--password", envvar="DURAKV_PASSWORD", default="", help="Password of the default user [env DURAKV_PASSWORD]."
    )(command)


def timeout_option(command: Command) -> Command:
    """``--timeout``: how long to wait for the group."""
    return click.option(
        "--timeout", "timeout_s", type=click.FloatRange(0.1, 3600), default=30.0, show_default=True,
        help="Seconds to wait.",
    )(command)  # fmt: skip


@click.group()
@click.version_option(__version__, prog_name="durakv", message=f"%(prog)s %(version)s, {build_mode()}")
def program() -> None:
    """A Redis/Valkey-compatible store whose acknowledged writes survive."""


@program.command(context_settings=PASSTHROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def server(arguments: tuple[str, ...]) -> None:
    """Run one node: durakv server [CONF] [--directive value ...]."""
    from durakv.process import run_server  # only a server needs the server

    sys.exit(run_server(list(arguments)))


@program.group(invoke_without_command=True)
@click.option("--listen", metavar="HOST:PORT", help="Where nodes reach it.")
@click.option("--dir", "directory", type=click.Path(), help="Where it keeps its states.")
@click.pass_context
def witness(context: click.Context, listen: str | None, directory: str | None) -> None:
    """Run a witness: durakv witness --listen HOST:PORT --dir DIR."""
    if context.invoked_subcommand is not None:
        return
    if listen is None or directory is None:
        raise click.UsageError("a witness needs --listen HOST:PORT and --dir DIR")
    from durakv.cli.witness import run  # only a witness needs it

    sys.exit(run(listen, directory))


@witness.command("status")
@click.argument("at", metavar="HOST:PORT")
def witness_status(at: str) -> None:
    """Show what a witness process keeps, as one JSON document."""
    from durakv.cli.witness import WitnessError, status  # only this needs it

    try:
        click.echo(json.dumps(status(at), indent=2))
    except WitnessError as error:
        raise click.ClickException(str(error)) from error


@witness.command("create")
@click.argument("address")
@click.option("--cluster-id", required=True, help="The cluster's id, 32 hex digits.")
@click.option("--group", type=click.IntRange(0), default=1, show_default=True, help="The group's number.")
@click.option("--id", "witness_id", type=click.IntRange(1), required=True, help="The witness's id, never used before.")
def witness_create(address: str, cluster_id: str, group: int, witness_id: int) -> None:
    """Found a witness's state at ADDRESS (tcp://, file:// or s3://), once per id."""
    from durakv.cli.witness import WitnessError, create_now  # only this needs it

    try:
        create_now(address, bytes.fromhex(cluster_id), group, witness_id)
    except (WitnessError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Created witness {witness_id} of group {group} at {address}")


@program.group()
def cluster() -> None:
    """Run and look after a cluster on this machine."""


@cluster.command(context_settings=PASSTHROUGH)
@dir_option
@click.option("--nodes", type=click.IntRange(1, 9), help="Number of nodes when the cluster is created.  [default: 3]")
@click.option("--base-port", type=click.IntRange(1, 55535), help="Port of the first node.  [default: 7000]")
@click.option("--cluster-enabled", type=click.Choice(["yes", "no"]), help="yes: nodes redirect clients (MOVED).")
@click.option(
    "--witness",
    is_flag=False,
    flag_value="tcp",
    default="",
    metavar="[ADDRESS]",
    help="Beside the nodes a witness: as a process here, or at file:///path or s3://bucket/prefix.",
)
@click.option("--detach", is_flag=True, help="Leave the nodes running and return.")
@password_option
@timeout_option
@click.argument("directives", nargs=-1, type=click.UNPROCESSED)
def up(
    root: Path, nodes: int | None, base_port: int | None, cluster_enabled: str | None, witness: str, detach: bool,
    password: str, timeout_s: float, directives: tuple[str, ...],
) -> None:  # fmt: skip
    """Create a cluster, or start the stopped nodes of an existing one.

    Directives for every node follow --, for example: -- --maxmemory 1gb
    """
    with explained():
        lines = layout.directive_lines(directives)
        if cluster_enabled is not None:
            lines.insert(0, f"cluster-enabled {cluster_enabled}")
        root.mkdir(parents=True, exist_ok=True)
        with interrupts_raise(), layout.locked(root):
            made = operations.prepare(root, nodes, base_port, lines, witness)
            try:
                operations.start_stopped(made)
                leader = operations.wait_for_leader(made, password, timeout_s)
            except BaseException:
                operations.stop_started(made)
                raise
        summary(made, leader)
        if not detach:
            follow(made)


@cluster.command("status")
@dir_option
@password_option
@click.option("--watch", is_flag=True, help="Refresh every second until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status_(root: Path, password: str, watch: bool, as_json: bool) -> None:
    """Show role, term, progress, latency and health of every node, and the witness. Exit code 1 when no node leads."""
    with explained():
        loaded = layout.load(root)
        rows = status.survey(loaded, password)
        if as_json:
            click.echo(json.dumps(status.document(loaded, rows)))
        elif watch:
            watch_status(root, password)
        else:
            from rich.console import Console

            Console().print(status.table(loaded, rows))
    if status.leader_of(rows) is None and not watch:
        sys.exit(1)


@cluster.command()
@dir_option
def stop(root: Path) -> None:
    """Stop all nodes; their data stays."""
    with explained():
        loaded = layout.load(root)
        with layout.locked(root):
            running, killed = operations.stop_all(loaded)
    names = ", ".join(node.name for node in killed)
    click.echo(f"Stopped {running} nodes" + (f"; had to kill {names}" if killed else ""))


@cluster.command("add-node")
@dir_option
@password_option
@timeout_option
@click.option("--port", type=click.IntRange(1, 55535), help="Port of the new node.  [default: the highest + 1]")
def add_node(root: Path, password: str, timeout_s: float, port: int | None) -> None:
    """Add a node and wait until it votes."""
    with explained():
        loaded = layout.load(root)
        with layout.locked(root):
            node = operations.add_node(loaded, port, password, timeout_s, click.echo)
    click.echo(f"{node.name} is a voter on {HOST}:{node.port}")


@cluster.command("add-witness")
@dir_option
@password_option
@timeout_option
@click.option(
    "--at",
    "address",
    default="tcp",
    metavar="ADDRESS",
    help="file:///path or s3://bucket/prefix.  [default: a process on this machine]",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the process.  [default: the highest + 1]")
def add_witness(root: Path, password: str, timeout_s: float, address: str, port: int | None) -> None:
    """Add a witness, which stands in for a node that fails and holds no data."""
    with explained():
        loaded = layout.load(root)
        with layout.locked(root):
            witness = operations.add_witness(loaded, address, port, password, timeout_s)
    click.echo(f"{witness.name} is the witness, at {witness.address}")


@cluster.command("remove-node")
@dir_option
@password_option
@timeout_option
@click.option("--node", "node_id", type=int, required=True, help="Id of the node or witness, as status shows it.")
def remove_node(root: Path, password: str, timeout_s: float, node_id: int) -> None:
    """Take a node, or the witness, out of the group and stop it."""
    with explained():
        loaded = layout.load(root)
        with layout.locked(root):
            witness = loaded.witness is not None and loaded.witness.node_id == node_id
            home = operations.remove_node(loaded, node_id, password, timeout_s)
    name = f"{'w' if witness else 'n'}{node_id}"
    click.echo(f"{name} is no longer a member; its files are in {home} and may be deleted")


@cluster.command()
@dir_option
@password_option
@timeout_option
@click.option("--to", "node_id", type=int, required=True, help="Id of the node that shall lead.")
def transfer(root: Path, password: str, timeout_s: float, node_id: int) -> None:
    """Hand leadership to a node."""
    with explained():
        operations.transfer(layout.load(root), node_id, password, timeout_s)
    click.echo(f"n{node_id} leads")


def summary(made: Cluster, leader: status.NodeStatus) -> None:
    """What a person needs after `up`."""
    plural = "s" if len(made.nodes) > 1 else ""
    beside = " and a witness" if made.witness is not None else ""
    click.echo(f"durakv {__version__}, {build_mode()}: {len(made.nodes)} node{plural}{beside}, n{leader.node_id} leads")
    for node in made.nodes:
        click.echo(f"  {node.name}  {HOST}:{node.port}  pid {node.pid}  {made.home(node)}")
    witness = made.witness
    if witness is not None and witness.port:
        click.echo(f"  {witness.name}  {HOST}:{witness.port}  pid {witness.pid}  {made.home(witness)}  (witness)")
    elif witness is not None:
        click.echo(f"  {witness.name}  {witness.address}  (witness)")
    mode = " -c" if any(line == "cluster-enabled yes" for line in made.directives) else ""
    click.echo(f"Talk to it:  redis-cli{mode} -p {leader.port} set hello world")
    click.echo(f"Watch it:    durakv cluster status --dir {made.root} --watch")
    click.echo(f"Stop it:     durakv cluster stop --dir {made.root}")


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Make SIGTERM end the command as Ctrl-C does, so that what was started is stopped."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def follow(made: Cluster) -> None:
    """Foreground mode: print what the nodes log until interrupted or until all have ended, then stop them all."""
    click.echo("Press Ctrl-C to stop all nodes")
    shown = made.processes()
    offsets = {member.node_id: made.log_file(member).stat().st_size for member in shown}
    with interrupts_raise():
        try:
            while any(processes.alive(node) for node in made.nodes):
                for node in shown:
                    with made.log_file(node).open("rb") as file:
                        file.seek(offsets[node.node_id])
                        data = file.read(1 << 20)
                    # Whole lines only: the rest is read again next time.
                    data = data[: data.rfind(b"\n") + 1]
                    offsets[node.node_id] += len(data)
                    for line in data.decode("utf-8", "replace").splitlines():
                        click.echo(f"{node.name} | {line}")
                time.sleep(0.1)
            click.echo("All nodes have ended", err=True)
        except KeyboardInterrupt:
            click.echo("\nStopping", err=True)
        with layout.locked(made.root):
            current = layout.load(made.root)
            _, killed = operations.stop_all(current)
        if killed:
            click.echo(f"Had to kill {', '.join(node.name for node in killed)}", err=True)


def watch_status(root: Path, password: str) -> None:
    """Redraw the table once a second until interrupted."""
    from rich.live import Live

    loaded = layout.load(root)
    with interrupts_raise():
        try:
            with Live(status.table(loaded, status.survey(loaded, password)), auto_refresh=False) as live:
                while True:
                    time.sleep(1)
                    loaded = layout.load(root)
                    live.update(status.table(loaded, status.survey(loaded, password)), refresh=True)
        except KeyboardInterrupt:
            return
