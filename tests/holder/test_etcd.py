"""The register in a real etcd: the same answers as the embedded one's, also when two adapters and the network race."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from durakv.holder import etcd_json
from durakv.holder.etcd import EtcdHolder, EtcdOptions
from durakv.world.real_network import RealNetwork
from raft.primary_backup.codec import decode_answer, encode_call
from raft.primary_backup.messages import (
    CasCall,
    CreateCall,
    ForceCall,
    HolderAnswer,
    HolderCall,
    Outcome,
    ReadCall,
    Reason,
    RenewCall,
)
from raft.primary_backup.register import Register
from raft.primary_backup.types import RequestId, ShardConfig
from tests.holder.holder_world import CLUSTER, SHARD
from tests.holder.real import Loop, free_ports

ETCD = shutil.which("etcd")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        ETCD is None,
        reason="no etcd on PATH: the etcd adapter's transactions, leases, logins and timeouts are untested",
    ),
]


class Etcd:
    """An etcd of one member on loopback."""

    def __init__(self, directory: Path, scheme: str = "http", arguments: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.scheme = scheme
        self.arguments = arguments
        self.port, self.peer_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        url, peer = f"{self.scheme}://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        self.process = subprocess.Popen(
            [str(ETCD), "--data-dir", str(self.directory), "--listen-client-urls", url, "--advertise-client-urls", url,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
             "--unsafe-no-fsync", "--log-level", "error", *self.arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            try:
                if self.scheme == "https":
                    with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                        return
                self.post("/v3/kv/range", {"key": "AA=="})
            except urllib.error.HTTPError as error:
                # It asks for a login.
                if error.code in (400, 401):
                    return
                raise
            except OSError:
                assert time.monotonic() < deadline, "etcd does not start"
                time.sleep(0.05)
            else:
                return

    def post(self, path: str, body: dict[str, object], token: str = "") -> dict[str, object]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"Authorization": token} if token else {})  # fmt: skip
        with urllib.request.urlopen(request, timeout=5) as reply:
            document: dict[str, object] = json.loads(reply.read())
        return document

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(20)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory) -> Iterator[Etcd]:
    made = Etcd(tmp_path_factory.mktemp("etcd") / "data")
    made.start()
    yield made
    made.stop()


class Callers:
    """Adapters of several nodes on one loop, under a prefix of the test's own."""

    def __init__(self, etcd: Etcd, prefix: str) -> None:
        self.etcd = etcd
        self.prefix = prefix
        self.loop = Loop()
        self.holders: list[EtcdHolder] = []

    def add(self, timeout_ms: int = 2000, endpoints: list[str] | None = None, **options) -> EtcdHolder:
        where = endpoints or [f"127.0.0.1:{self.etcd.port}"]
        holder = EtcdHolder(
            self.loop.clock, self.loop.network,
            EtcdOptions(where, f"/{self.prefix}/", timeout_ms=timeout_ms, **options), CLUSTER, self.loop.answered,
        )  # fmt: skip
        self.holders.append(holder)
        return holder

    def ask(self, holder: EtcdHolder, call: HolderCall) -> HolderAnswer:
        return self.loop.ask(holder, call)

    def close(self) -> None:
        for holder in self.holders:
            holder.close()
        self.loop.close()


@pytest.fixture
def callers(etcd: Etcd, request) -> Iterator[Callers]:
    made = Callers(etcd, request.node.name)
    yield made
    made.close()


def created(callers: Callers, holder: EtcdHolder) -> ShardConfig:
    answer = callers.ask(holder, callers.loop.create())
    assert answer.outcome == Outcome.OK and answer.config is not None
    return answer.config


def random_call(random: Random, number: int, seen: ShardConfig | None, wishes: list[CasCall]) -> HolderCall:
    node = random.choice((1, 2, 4))
    request = RequestId(node, 1, number if random.random() < 0.97 else 0)
    kind = random.random()
    if seen is None or kind < 0.1:
        founding = RequestId(0, 0, 0)
        epoch = random.choice((1, 1, 1, 2))
        config = ShardConfig(SHARD, epoch, 1, (1, 2), (4,), random.choice((1, 1, 2)), 0, founding, b"")
        return CreateCall(number, SHARD, founding, config)
    if kind < 0.2:
        return ReadCall(number, SHARD, request)
    if kind < 0.3 and wishes:
        wish = random.choice(wishes[-3:])
        return CasCall(number, SHARD, wish.request, wish.config)
    if kind < 0.4:
        given_up = tuple(member for member in seen.isr if member != node)
        if random.random() < 0.2:
            given_up = ()
        return ForceCall(number, SHARD, request, seen.epoch - random.choice((0, 0, 0, 1)), node, given_up, 3, 4)
    if kind < 0.45:
        # None of them makes a lease, which would outlast the call.
        if random.random() < 0.5:
            return RenewCall(number, SHARD, RequestId(seen.primary, 1, number), seen.epoch, 0)
        return RenewCall(number, SHARD, request, seen.epoch + 1, random.choice((0, 10**9)))
    members = list(seen.members())
    random.shuffle(members)
    isr = tuple(sorted({node, *members[: random.randrange(3)]}))
    if random.random() < 0.3 and node in seen.isr and node != seen.primary:
        isr = tuple(member for member in seen.isr if member != seen.primary)
    learners = tuple(member for member in (1, 2, 4) if member not in isr)
    epoch = max(2, seen.epoch + random.choice((1, 1, 1, 1, 1, 0, 2)))
    config = ShardConfig(SHARD, epoch, node, isr, learners, seen.min_isr, seen.forced_epoch, request, seen.context)
    wish = CasCall(number, SHARD, request, config)
    wishes.append(wish)
    return wish


def test_its_answers_are_those_of_a_register(callers: Callers):
    random = Random(5)
    holders = [callers.add(), callers.add()]
    register = Register()
    seen: ShardConfig | None = None
    wishes: list[CasCall] = []
    outcomes: dict[tuple[str, int], int] = {}
    for number in range(1, 400):
        call = random_call(random, number, seen, wishes)
        right = (
            decode_answer(register.apply(encode_call(call), number))
            if not isinstance(call, ReadCall)
            else HolderAnswer(number, Outcome.OK, Reason.NONE, register.shard(SHARD))
        )
        if isinstance(call, ReadCall) and register.shard(SHARD) is None:
            right = HolderAnswer(number, Outcome.REFUSED, Reason.MISSING, None)
        answer = callers.ask(random.choice(holders), call)
        assert (answer.outcome, answer.reason) == (right.outcome, right.reason), (number, type(call))
        if answer.config is not None:
            assert answer.config == right.config, number
        name = (type(call).__name__, answer.reason)
        outcomes[name] = outcomes.get(name, 0) + 1
        seen = register.shard(SHARD)
    # Every rule had its turn.
    for kind in ("CasCall", "ForceCall", "RenewCall"):
        for reason in (Reason.NONE, Reason.EPOCH, Reason.INVALID):
            if (kind, reason) != ("RenewCall", Reason.NONE):
                assert outcomes.get((kind, reason), 0) > 2, (kind, reason, outcomes)
    assert outcomes["CreateCall", Reason.INVALID] > 2


def test_of_two_adapters_that_race_one_wins(callers: Callers):
    one, two = callers.add(), callers.add()
    config = created(callers, one)
    loop = callers.loop
    wins = {1: 0, 2: 0}
    for _ in range(40):
        calls = {1: loop.cas(1, config), 2: loop.cas(2, config)} if {1, 2} == set(config.isr) else {}
        if not calls:
            calls = {node: loop.cas(node, config) for node in config.isr}
            back = loop.next()
            request = RequestId(config.primary, 7, back)
            whole = ShardConfig(SHARD, config.epoch + 1, config.primary, (1, 2), (4,), 1, 0, request, b"")
            calls = {config.primary: CasCall(back, SHARD, request, whole)}
        for node, call in calls.items():
            (one if node == 1 else two).submit(call)
        ids = [call.call_id for call in calls.values()]
        loop.wait(lambda ids=ids: all(call_id in loop.answers for call_id in ids))  # type: ignore[misc]
        won = [node for node, call in calls.items() if loop.answers[call.call_id].outcome == Outcome.OK]
        assert len(won) == 1
        for node, call in calls.items():
            answer = loop.answers[call.call_id]
            if node not in won:
                assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.EPOCH)
                wins[won[0]] += 1
            assert answer.config == calls[won[0]].config
        config = calls[won[0]].config
    # Both have won against the other at some time.
    assert sum(wins.values()) >= 15


def test_a_transaction_without_an_answer_is_unknown_and_may_take_effect(callers: Callers, etcd: Etcd):
    holder = callers.add(timeout_ms=400)
    config = created(callers, holder)
    loop = callers.loop
    place = holder._places[0]
    post = place.post

    def stopping(path, headers, body, done):
        if path == etcd_json.TXN:
            etcd.signal(signal.SIGSTOP)
        return post(path, headers, body, done)

    place.post = stopping  # type: ignore[method-assign]
    wish = loop.cas(1, config)
    answer = callers.ask(holder, wish)
    assert answer.outcome == Outcome.UNKNOWN and holder.health().unknown == 1
    place.post = post  # type: ignore[method-assign]
    # A question that changes nothing was not "sent": nothing will come of it.
    answer = callers.ask(holder, loop.read())
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.NOT_SENT)
    assert "gives no answer" in holder.health().trouble
    etcd.signal(signal.SIGCONT)
    deadline = time.monotonic() + 10
    while True:
        again = callers.ask(holder, CasCall(loop.next(), SHARD, wish.request, wish.config))
        if again.outcome != Outcome.UNKNOWN and again.reason != Reason.NOT_SENT:
            break
        assert time.monotonic() < deadline
    assert again.outcome == Outcome.OK and again.config == wish.config
    assert holder.health().trouble == "" and holder.health().answer_age_ms < 5000


def test_nobody_is_forced_before_the_lease_has_expired(callers: Callers):
    holder, operator = callers.add(), callers.add()
    config = created(callers, holder)
    loop = callers.loop
    grace_ns = 2_500_000_000

    def force() -> HolderAnswer:
        number = loop.next()
        return callers.ask(operator, ForceCall(number, SHARD, RequestId(0, 1, number), config.epoch, 2, (1,), 0, 0))

    def renew(holder: EtcdHolder, node: int = 1) -> HolderAnswer:
        number = loop.next()
        return callers.ask(holder, RenewCall(number, SHARD, RequestId(node, 7, number), config.epoch, grace_ns))

    begin = time.monotonic()
    assert renew(holder).outcome == Outcome.OK
    assert (force().outcome, force().reason) == (Outcome.REFUSED, Reason.LEASED)
    loop.pass_s(1.5)
    begin = time.monotonic()
    assert renew(holder).outcome == Outcome.OK, "kept alive"
    lease = holder._leases[SHARD]
    other = renew(operator, node=2)
    assert (other.outcome, other.reason) == (Outcome.REFUSED, Reason.EPOCH)
    answer = force()
    while answer.reason == Reason.LEASED:
        loop.pass_s(0.1)
        answer = force()
    assert answer.outcome == Outcome.OK and answer.config is not None and answer.config.epoch == config.epoch + 1000
    assert grace_ns / 1e9 <= time.monotonic() - begin < 10
    # The old primary hears of it, and its lease is no use any more.
    late = renew(holder)
    assert (late.outcome, late.reason, late.config) == (Outcome.REFUSED, Reason.EPOCH, answer.config)
    config = answer.config
    assert renew(operator, node=2).outcome == Outcome.OK
    assert holder._leases[SHARD] != lease


def test_an_etcd_that_is_away_is_said_to_be(callers: Callers, tmp_path: Path):
    nobody = free_ports(1)[0]
    holder = callers.add(timeout_ms=300, endpoints=[f"127.0.0.1:{nobody}"])
    answer = callers.ask(holder, callers.loop.create())
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.NOT_SENT)
    health = holder.health()
    assert str(nobody) in health.trouble and health.answer_age_ms == -1 and health.kind == "etcd"
    both = callers.add(endpoints=[f"127.0.0.1:{nobody}", f"127.0.0.1:{callers.etcd.port}"])
    created(callers, both)
    assert both.health().trouble == ""


def test_login_and_tokens_that_expired(tmp_path: Path):
    etcd = Etcd(tmp_path / "auth")
    etcd.start()
    callers = Callers(etcd, "auth")
    try:
        etcd.post("/v3/auth/user/add", {"name": "root", "password": "secret"})
        etcd.post("/v3/auth/role/add", {"name": "root"})
        etcd.post("/v3/auth/user/grant", {"user": "root", "role": "root"})
        etcd.post("/v3/auth/enable", {})
        stranger = callers.add(timeout_ms=500)
        answer = callers.ask(stranger, callers.loop.create())
        assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.NOT_SENT)
        assert "refused" in stranger.health().trouble
        wrong = callers.add(timeout_ms=500, user="root", password="guess")
        answer = callers.ask(wrong, callers.loop.create())
        assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.NOT_SENT)
        assert "does not let user root in" in wrong.health().trouble
        holder = callers.add(user="root", password="secret")
        config = created(callers, holder)
        # etcd keeps its tokens in memory alone.
        etcd.stop()
        etcd.start()
        answer = callers.ask(holder, callers.loop.cas(1, config))
        assert answer.outcome == Outcome.OK
    finally:
        callers.close()
        etcd.stop()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH: the etcd adapter over TLS is untested")
def test_tls(tmp_path: Path):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    etcd = Etcd(tmp_path / "data", "https", ("--cert-file", certificate, "--key-file", key))
    etcd.start()
    callers = Callers(etcd, "tls")
    callers.loop.network = RealNetwork(
        callers.loop.loop,
        contexts={"etcd": ssl.create_default_context(cafile=certificate), "other": ssl.create_default_context()},
    )
    try:
        holder = callers.add(tls="etcd", timeout_ms=5000)
        deadline = time.monotonic() + 20
        while callers.ask(holder, callers.loop.create()).outcome != Outcome.OK:
            assert time.monotonic() < deadline, holder.health().trouble
        # One that does not trust the certificate, and one that speaks no TLS.
        for tls in ("other", None):
            wrong = callers.add(timeout_ms=700, tls=tls)
            answer = callers.ask(wrong, callers.loop.create())
            assert (answer.outcome, answer.reason) != (Outcome.OK, Reason.NONE)
            assert wrong.health().trouble
    finally:
        callers.close()
        etcd.stop()
