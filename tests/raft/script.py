"""Runs a text script against a cluster and yields its transcript, so that a protocol exchange can be read and diffed.

A script is paragraphs: commands, a line of dashes, the expected output, an empty line. Lines with # are comments.
`python -m tests.raft.script --rewrite` writes the present output into every script; read the diff before keeping it.
"""

import sys
from pathlib import Path
from typing import Any

from raft import ConfChange, ProposalDropped, Ready, codec
from raft.messages import (
    Append,
    AppendResp,
    Heartbeat,
    HeartbeatResp,
    Message,
    PreVote,
    PreVoteResp,
    ReadIndexReq,
    ReadIndexResp,
    Snapshot,
    SnapshotResp,
    StorageAppendDone,
    TimeoutNow,
    Vote,
    VoteResp,
    WitnessAppend,
    WitnessAppendResp,
    WitnessVote,
    WitnessVoteResp,
)
from raft.types import ROLE_NAMES, Entry, EntryKind, Membership
from tests.raft.cluster import Cluster

SCRIPTS = Path(__file__).parent / "scripts"


def entry_text(e: Entry) -> str:
    if e.kind == EntryKind.NOOP:
        body = "noop"
    elif e.kind == EntryKind.CONFIG:
        body = repr(Membership.decode(e.data))
    else:
        body = repr(e.data.decode())
    return f"{e.term}/{e.index} {body}"


def message_text(m: Message) -> str:
    return f"{m.from_}->{m.to} {type(m).__name__} term {m.term}{_body(m)}"


def _body(m: Message) -> str:
    if isinstance(m, Append):
        entries = ", ".join(entry_text(e) for e in m.entries)
        return f" prev {m.prev_term}/{m.prev_index} commit {m.commit} round {m.round} [{entries}]"
    if isinstance(m, AppendResp):
        if m.ok:
            return f" ok {m.match} round {m.round}"
        return f" refused {m.match} hint {m.hint_term}/{m.hint_index} round {m.round}"
    if isinstance(m, Heartbeat):
        return f" commit {m.commit} round {m.round}" if m.round else f" commit {m.commit} (notice)"
    if isinstance(m, HeartbeatResp):
        return f" round {m.round}"
    if isinstance(m, Vote):
        return f" last {m.last_term}/{m.last_index}" + (" forced" if m.force else "")
    if isinstance(m, PreVote):
        return f" last {m.last_term}/{m.last_index}"
    if isinstance(m, (VoteResp, PreVoteResp)):
        return " granted" if m.granted else " refused"
    if isinstance(m, Snapshot):
        end = " done" if m.done else ""
        return f" snapshot {m.meta.term}/{m.meta.index} bytes {m.offset}+{len(m.data)}{end}"
    if isinstance(m, SnapshotResp):
        return f" snapshot {m.index} wants {m.next_offset}"
    if isinstance(m, TimeoutNow):
        return ""
    if isinstance(m, ReadIndexReq):
        return ""
    if isinstance(m, ReadIndexResp):
        return f" ok {m.index}" if m.ok else " refused"
    if isinstance(m, (WitnessAppend, WitnessAppendResp, WitnessVote, WitnessVoteResp)):
        return _witness_body(m)
    assert isinstance(m, StorageAppendDone)
    return f" storage done {m.term_last}/{m.index}"


def _witness_body(m: WitnessAppend | WitnessAppendResp | WitnessVote | WitnessVoteResp) -> str:
    if isinstance(m, WitnessAppend):
        return f" log {m.last_log_term}.{m.last_log_subterm} set {list(m.replication_set)} index {m.index}"
    if isinstance(m, WitnessAppendResp):
        return f" {'ok' if m.ok else 'refused'} subterm {m.subterm} index {m.index}"
    pre = " pre" if m.pre else ""
    if isinstance(m, WitnessVote):
        return f"{pre} log {m.last_log_term}.{m.last_log_subterm} vouched for by {list(m.votes_granted)}"
    return f"{pre} {'granted' if m.granted else 'refused'}"


class Script:
    """One cluster and the words that move it; every method named do_x is a command."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.out: list[str] = []

    def run(self, line: str) -> None:
        words = line.split()
        options = dict(w.split("=", 1) for w in words[1:] if "=" in w)
        plain = [w for w in words[1:] if "=" not in w]
        try:
            getattr(self, "do_" + words[0].replace("-", "_"))(plain, options)
        except ProposalDropped as error:
            self.out.append(f"{type(error).__name__}: {error}")

    def ready_text(self, node: int, rd: Ready) -> None:
        lines = []
        if rd.soft_state is not None:
            lines.append(f"{ROLE_NAMES[rd.soft_state.role]}, leader {rd.soft_state.leader}")
        if rd.hard_state is not None:
            hs = rd.hard_state
            lines.append(f"hard state term {hs.term} vote {hs.vote} commit {hs.commit}")
        if rd.snapshot is not None:
            lines.append(f"install snapshot {rd.snapshot.term}/{rd.snapshot.index}")
        if rd.entries:
            lines.append("persist " + ", ".join(entry_text(e) for e in rd.entries))
        lines += ["send " + message_text(m) for m in rd.messages]
        lines += ["then " + message_text(m) for m in rd.after_persist]
        if rd.committed_entries:
            lines.append("apply " + ", ".join(entry_text(e) for e in rd.committed_entries))
        lines += [f"read {ctx} at {index}" for ctx, index in rd.read_states]
        lines += [f"read {ctx} failed" for ctx in rd.failed_reads]
        sync = " (sync)" if rd.must_sync else ""
        self.out.append(f"ready {node}{sync}" + "".join("\n  " + text for text in lines))

    # Commands

    def do_cluster(self, _plain, options) -> None:
        voters = tuple(int(n) for n in options.pop("voters", "1,2,3").split(","))
        learners = tuple(int(n) for n in options.pop("learners", "").split(",") if n)
        witness = int(options.pop("witness", "0"))
        settings = {k: v == "yes" if v in {"yes", "no"} else int(v) for k, v in options.items()}
        self.cluster = Cluster(voters, learners, witness=witness, **settings)
        self.do_quiet_settle([], {})

    def do_add(self, plain, _options) -> None:
        self.cluster.add(int(plain[0]))

    def do_take(self, plain, _options) -> None:
        node = int(plain[0])
        if self.cluster.core(node).has_ready():
            self.ready_text(node, self.cluster.take(node))
        else:
            self.out.append(f"nothing ready at {node}")

    def do_fsync(self, plain, _options) -> None:
        self.cluster.fsync(int(plain[0]))

    def do_deliver(self, plain, _options) -> None:
        for _ in range(int(plain[0]) if plain else len(self.cluster.wire)):
            _, _, data = self.cluster.wire[0]
            self.out.append("deliver " + message_text(codec.decode(data)))
            self.cluster.deliver()

    def do_drop(self, _plain, _options) -> None:
        for _, _, data in self.cluster.wire:
            self.out.append("drop " + message_text(codec.decode(data)))
        self.cluster.wire.clear()

    def do_settle(self, _plain, _options) -> None:
        c = self.cluster
        busy = True
        while busy:
            busy = False
            for node, server in c.servers.items():
                while server.core is not None and server.core.has_ready():
                    self.ready_text(node, c.take(node))
                    busy = True
                while server.core is not None and server.pending:
                    c.fsync(node)
                    busy = True
            if c.wire:
                self.do_deliver([], {})
                busy = True

    def do_quiet_settle(self, _plain, _options) -> None:
        self.cluster.settle()

    def do_tick(self, plain, options) -> None:
        """Ticks alone; nothing is taken or delivered."""
        nodes = [int(n) for n in options.get("nodes", "").split(",") if n] or list(self.cluster.servers)
        for _ in range(int(plain[0])):
            self.cluster.now_ns += 10_000_000
            for node in nodes:
                self.cluster.core(node).tick(self.cluster.now_ns)

    def do_pass(self, plain, _options) -> None:
        """Ticks with everything delivered in between, silently."""
        self.cluster.tick(int(plain[0]))

    def do_campaign(self, plain, _options) -> None:
        self.cluster.core(int(plain[0])).campaign()

    def do_elect(self, plain, _options) -> None:
        self.cluster.elect(int(plain[0]))

    def do_forget(self, plain, _options) -> None:
        for node in plain:
            self.cluster.core(int(node)).forget_leader()

    def do_propose(self, plain, _options) -> None:
        index = self.cluster.core(int(plain[0])).propose(plain[1].encode())
        self.out.append(f"index {index}")

    def do_change(self, plain, options) -> None:
        edits: dict[str, Any] = {k.replace("-", "_"): [int(n) for n in v.split(",")] for k, v in options.items()}
        index = self.cluster.core(int(plain[0])).propose_conf(ConfChange(**edits))
        self.out.append(f"index {index}")

    def do_read(self, plain, _options) -> None:
        self.cluster.core(int(plain[0])).read_index(plain[1])

    def do_transfer(self, plain, _options) -> None:
        self.cluster.core(int(plain[0])).transfer_leader(int(plain[1]))

    def do_snapshot(self, plain, _options) -> None:
        meta = self.cluster.snapshot(int(plain[0]))
        self.out.append(f"snapshot {meta.term}/{meta.index}")

    def do_isolate(self, plain, _options) -> None:
        self.cluster.isolate(*[int(n) for n in plain])

    def do_heal(self, _plain, _options) -> None:
        self.cluster.heal()

    def do_crash(self, plain, _options) -> None:
        self.cluster.crash(int(plain[0]))

    def do_start(self, plain, _options) -> None:
        self.cluster.start(int(plain[0]))

    def do_status(self, _plain, _options) -> None:
        for node, server in self.cluster.servers.items():
            if server.core is None:
                self.out.append(f"{node}: down")
                continue
            s = server.core.status()
            text = f"{node}: {s.role_name()} term {s.term} leader {s.leader} commit {s.commit} last {s.last_index} "
            text += repr(s.membership)
            text += "".join(f"\n  {p.node}: {p.state} match {p.match} next {p.next}" for p in s.peers)
            self.out.append(text)

    def do_set(self, plain, _options) -> None:
        """The replication set of a leader."""
        view = self.cluster.core(int(plain[0])).witness_state()
        how = "pinned" if view.pinned else "engaged" if view.engaged else "asking" if view.asking else "at rest"
        self.out.append(f"set {list(view.replication_set)} subterm {view.subterm}, witness {how}")

    def do_log(self, plain, _options) -> None:
        for node in plain:
            log = self.cluster.core(int(node)).log
            entries = log.entries(log.first_index(), log.last + 1, 1 << 40) if log.last >= log.first_index() else []
            self.out.append(f"{node}: " + ", ".join(entry_text(e) for e in entries))


def transcript(text: str) -> str:
    """The script with the output its commands give now."""
    script = Script()
    out = []
    for paragraph in text.strip("\n").split("\n\n"):
        lines = paragraph.split("\n")
        commands = lines[: lines.index("----")] if "----" in lines else lines
        out.append("\n".join(commands))
        runnable = [line for line in commands if not line.startswith("#")]
        if runnable:
            script.out = []
            for line in runnable:
                script.run(line)
            out[-1] += "\n----\n" + "\n".join(script.out or ["ok"])
    return "\n\n".join(out) + "\n"


def rewrite() -> None:
    for path in sorted(SCRIPTS.glob("*.txt")):
        path.write_text(transcript(path.read_text()))


if __name__ == "__main__" and "--rewrite" in sys.argv:
    rewrite()
