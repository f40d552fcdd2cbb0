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
from durakv.cli import layout, operations, processes, regrouping, status
from durakv.cli import shards as groups
from durakv.cli.layout import HOST, Cluster
from durakv.cli.proxy import proxy

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


def group_option(command: Command) -> Command:
    """``--group``: which group of several."""
    return click.option(
        "--group", type=click.IntRange(1), help="Number of the group, where --dir holds several of them."
    )(command)


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


program.add_command(proxy)


@program.command(context_settings=PASSTHROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def server(arguments: tuple[str, ...]) -> None:
    """Run one node: durakv server [CONF] [--directive value ...]."""
    from durakv.process import run_server  # only a server needs the server

    sys.exit(run_server(list(arguments)))


@program.command()
@click.option("--dir", "directory", type=click.Path(), required=True, help="Where it keeps its votes and the register.")
@click.option("--cluster-id", required=True, help="The cluster's id, 32 hex digits.")
@click.option("--id", "member_id", type=click.IntRange(1), required=True, help="Its number among the members.")
@click.argument("members", nargs=-1, required=True)
def arbiter(directory: str, cluster_id: str, member_id: int, members: tuple[str, ...]) -> None:
    """Run a member of lease mode's config holder and nothing else; MEMBERS are all of them, as ID=HOST:PORT."""
    from durakv.cli.arbiter import run  # only an arbiter needs it

    sys.exit(run(directory, cluster_id, member_id, list(members)))


@program.command(context_settings=PASSTHROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def holder(arguments: tuple[str, ...]) -> None:
    """Look after the members of lease mode's config holder."""
    from durakv.cli.arbiter import holder as group  # only this needs it

    group.main(args=list(arguments), prog_name="durakv holder")


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
@click.option("--shards", type=click.IntRange(1, 99), help="Groups that share the slots, each of so many nodes.")
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
@click.option(
    "--mode",
    type=click.Choice(["raft", "lease"]),
    default=None,
    help="How a new cluster agrees: a majority, or a primary and its in-sync members.  [default: raft]",
)
@click.option("--holder-etcd", metavar="HOST:PORT,...", help="Lease mode: an etcd 3 that says who is primary.")
@click.option("--detach", is_flag=True, help="Leave the nodes running and return.")
@password_option
@timeout_option
@click.argument("directives", nargs=-1, type=click.UNPROCESSED)
def up(
    root: Path, nodes: int | None, shards: int | None, base_port: int | None, cluster_enabled: str | None, witness: str,
    mode: str | None, holder_etcd: str | None, detach: bool, password: str, timeout_s: float,
    directives: tuple[str, ...],
) -> None:  # fmt: skip
    """Create a cluster, or start the stopped nodes of an existing one.

    Directives for every node follow --, for example: -- --maxmemory 1gb
    """
    with explained():
        lines = layout.directive_lines(directives)
        if cluster_enabled is not None:
            lines.insert(0, f"cluster-enabled {cluster_enabled}")
        root.mkdir(parents=True, exist_ok=True)
        etcd = [endpoint for endpoint in (holder_etcd or "").split(",") if endpoint]
        several = shards is not None or groups.exists(root)
        if several and cluster_enabled == "no":
            raise operations.OperationError("several groups need cluster mode; leave --cluster-enabled no out")
        with interrupts_raise(), layout.locked(root):
            if several:
                made = groups.prepare(root, shards, nodes, base_port, lines, witness, mode or "", etcd)
            else:
                made = [operations.prepare(root, nodes, base_port, lines, witness, mode or "", etcd)]
            leaders = started(made, password, timeout_s)
        for one, leader in zip(made, leaders, strict=True):
            summary(one, leader)
        advice(root, made, leaders[0])
        if not detach:
            follow(root, made)


def started(made: list[Cluster], password: str, timeout_s: float) -> list[status.NodeStatus]:
    """Start what does not run of each group; returns their leaders."""
    try:
        running = [one for one in made if not operations.any_stopped(one)]
        for one in made:
            if one not in running or len(running) == len(made):
                operations.start_stopped(one)
        return [operations.wait_for_leader(one, password, timeout_s) for one in made]
    except BaseException:
        for one in made:
            operations.stop_started(one)
        raise


@cluster.command("status")
@dir_option
@password_option
@click.option("--watch", is_flag=True, help="Refresh every second until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status_(root: Path, password: str, watch: bool, as_json: bool) -> None:
    """Show role, term, progress, latency and health of every node, and the witness. Exit code 1 when no node leads."""
    with explained():
        made = groups.load(root) if groups.exists(root) else [layout.load(root)]
        if watch and len(made) > 1:
            raise operations.OperationError(f"--watch shows one group; write --dir {made[0].root}, for example")
        surveyed = [(one, status.survey(one, password)) for one in made]
        if as_json:
            documents = [status.document(one, rows) for one, rows in surveyed]
            click.echo(json.dumps(documents[0] if len(made) == 1 else {"groups": documents}))
        elif watch:
            watch_status(root, password)
        else:
            from rich.console import Console

            for one, rows in surveyed:
                Console().print(status.table(one, rows))
    if not watch and any(status.leader_of(rows) is None for _, rows in surveyed):
        sys.exit(1)


@cluster.command()
@dir_option
def stop(root: Path) -> None:
    """Stop all nodes; their data stays."""
    with explained():
        made = groups.load(root) if groups.exists(root) else [layout.load(root)]
        running, killed = 0, []
        with layout.locked(root):
            for one in made:
                count, forced = operations.stop_all(one)
                running += count
                killed += forced
    names = ", ".join(node.name for node in killed)
    click.echo(f"Stopped {running} nodes" + (f"; had to kill {names}" if killed else ""))


@cluster.command("add-shard", context_settings=PASSTHROUGH)
@dir_option
@password_option
@timeout_option
@click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True, help="Number of its nodes.")
@click.option("--base-port", type=click.IntRange(1, 55535), help="Port of its first node.  [default: past the others]")
@click.option("--witness", is_flag=True, help="Beside the nodes a witness, as a process here.")
@click.option("--mode", type=click.Choice(["raft", "lease"]), default=None, help="[default: that of the first group]")
@click.option("--holder-etcd", metavar="HOST:PORT,...", help="Lease mode: an etcd 3 that says who is primary.")
@click.option("--fill", is_flag=True, help="Move slots there until it has as many as the others.")
@click.argument("directives", nargs=-1, type=click.UNPROCESSED)
def add_shard(
    root: Path, password: str, timeout_s: float, nodes: int, base_port: int | None, witness: bool, mode: str | None,
    holder_etcd: str | None, fill: bool, directives: tuple[str, ...],
) -> None:  # fmt: skip
    """Add a group to a running cluster of several, without slots at first.

    Directives for its nodes follow --; without any they are those of the first group.
    """
    with explained():
        lines = layout.directive_lines(directives)
        with interrupts_raise(), layout.locked(root):
            etcd = [endpoint for endpoint in (holder_etcd or "").split(",") if endpoint]
            new = groups.add(root, nodes, base_port, lines, "tcp" if witness else "", mode or "", etcd)
            others = groups.load(root)
            (leader,) = started([new], password, timeout_s)
            groups.joined(root, new)
            summary(new, leader)
            assert new.shard is not None
            regrouping.known_to_all(new, others, password, timeout_s)
            moved = regrouping.fill(new, others, password, timeout_s, click.echo) if fill else 0
    if moved:
        click.echo(f"Group {new.shard.group} owns {moved} slots")
    else:
        click.echo(
            f"Group {new.shard.group} owns no slots yet: order some with CLUSTER MIGRATESLOTS, or let a rebalancer "
            "fill it (CONFIG SET rebalance auto on all nodes)"
        )


@cluster.command("remove-shard")
@dir_option
@password_option
@timeout_option
@click.option("--group", type=click.IntRange(1), required=True, help="Number of the group.")
def remove_shard(root: Path, password: str, timeout_s: float, group: int) -> None:
    """Move a group's slots to the others, take it out of the cluster and stop it.

    The timeout is how long no slot may move before the command gives up; given again it goes on.
    """
    with explained():
        groups.require_several(root)
        with interrupts_raise(), layout.locked(root):
            home = regrouping.remove(root, group, password, timeout_s, click.echo)
    click.echo(f"Group {group} is no longer part of the cluster; its files are in {home} and may be deleted")


@cluster.command("add-node")
@dir_option
@group_option
@password_option
@timeout_option
@click.option("--port", type=click.IntRange(1, 55535), help="Port of the new node.  [default: the highest + 1]")
def add_node(root: Path, group: int | None, password: str, timeout_s: float, port: int | None) -> None:
    """Add a node and wait until it votes."""
    with explained():
        root = groups.root_of(root, group)
        loaded = layout.load(root)
        with layout.locked(root):
            node = operations.add_node(loaded, port, password, timeout_s, click.echo)
    click.echo(f"{node.name} is a voter on {HOST}:{node.port}")


@cluster.command("add-witness")
@dir_option
@group_option
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
def add_witness(root: Path, group: int | None, password: str, timeout_s: float, address: str, port: int | None) -> None:
    """Add a witness, which stands in for a node that fails and holds no data."""
    with explained():
        root = groups.root_of(root, group)
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
    """Take a node, or the witness, out of its group and stop it."""
    with explained():
        root = groups.root_of(root, None, node_id)
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
        root = groups.root_of(root, None, node_id)
        operations.transfer(layout.load(root), node_id, password, timeout_s)
    click.echo(f"n{node_id} leads")


def summary(made: Cluster, leader: status.NodeStatus) -> None:
    """What a person needs after `up`."""
    plural = "s" if len(made.nodes) > 1 else ""
    beside = " and a witness" if made.witness is not None else ""
    slots = ""
    if made.shard is not None and made.shard.slots is not None:
        slots = f", group {made.shard.group} of slots {made.shard.slots[0]}-{made.shard.slots[1]}"
    click.echo(
        f"durakv {__version__}, {build_mode()}: {len(made.nodes)} node{plural}{beside}{slots}, n{leader.node_id} leads"
    )
    for node in made.nodes:
        click.echo(f"  {node.name}  {HOST}:{node.port}  pid {node.pid}  {made.home(node)}")
    witness = made.witness
    if witness is not None and witness.port:
        click.echo(f"  {witness.name}  {HOST}:{witness.port}  pid {witness.pid}  {made.home(witness)}  (witness)")
    elif witness is not None:
        click.echo(f"  {witness.name}  {witness.address}  (witness)")
    arbiter = made.arbiter
    if arbiter is not None:
        click.echo(f"  {arbiter.name}  {HOST}:{arbiter.port}  pid {arbiter.pid}  {made.home(arbiter)}  (arbiter)")


def advice(root: Path, made: list[Cluster], leader: status.NodeStatus) -> None:
    """What to type next."""
    mode = " -c" if len(made) > 1 or any(line == "cluster-enabled yes" for line in made[0].directives) else ""
    click.echo(f"Talk to it:  redis-cli{mode} -p {leader.port} set hello world")
    click.echo(f"Watch it:    durakv cluster status --dir {root}{' --watch' if len(made) == 1 else ''}")
    click.echo(f"Stop it:     durakv cluster stop --dir {root}")


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


def follow(root: Path, made: list[Cluster]) -> None:
    """Foreground mode: print what the nodes log until interrupted or until all have ended, then stop them all."""
    click.echo("Press Ctrl-C to stop all nodes")
    shown = [(member, one.log_file(member)) for one in made for member in one.processes()]
    offsets = {member.node_id: log.stat().st_size for member, log in shown}
    with interrupts_raise():
        try:
            while any(processes.alive(node) for one in made for node in one.nodes):
                for node, log in shown:
                    with log.open("rb") as file:
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
        killed: list[layout.Member] = []
        with layout.locked(root):
            for one in made:
                killed += operations.stop_all(layout.load(one.root))[1]
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
