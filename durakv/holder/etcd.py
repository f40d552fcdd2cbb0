"""The config holder in an etcd 3 that is there already: the same register, kept with etcd's transactions and leases.

Rule: a request that may change something is sent once per call. When it is lost the call's outcome is UNKNOWN; it is
REFUSED only by an answer of etcd, or when nothing that changes anything had been sent. The rules of the register are
raft.primary_backup.register's. Never calls back from within submit().

Under ``prefix`` and the cluster's id each shard has two keys: ``config``, its ShardConfig, and ``office``, which a
primary that is alone holds by a lease of etcd's, and without whose absence nobody is promoted by force. A lease is
renewed first and looked at afterwards, so that "it holds" is said of a time after the call was made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Final

from durakv.holder import etcd_json
from durakv.holder.etcd_json import Found, Json, ReplyError, absent, get, held_by, put, txn, unchanged
from durakv.holder.health import ETCD, HolderHealth
from durakv.witness.address import host_and_port
from durakv.world.ports import Clock, Network, Timer
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
from raft.primary_backup.register import GRACE_NS_MAX, forced, judge_cas, judge_force
from raft.primary_backup.types import ShardConfig
from raft.types import DecodeError

try:
    from durakv.holder.http import Exchange, HttpPlace, Reply
except ModuleNotFoundError:  # pragma: no cover - without the extra there is no h11
    _MISSING = True
else:
    _MISSING = False

TIMEOUT_MS: Final = 400
# etcd takes its time over a password, more than a call has when many nodes start at once.
LOGIN_MS: Final = 5000
# Between two rounds through all endpoints while none can be reached.
ROUND_MS: Final = 50
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
NO_H11: Final = "an etcd as config holder needs the package h11: install durakv[etcd]"


class EtcdOptions:
    """``endpoints`` as host:port; ``prefix`` begins all keys. ``user`` and ``password`` where etcd has authentication
    on; ``tls`` names a context of the network. ``timeout_ms`` after submit() a call has its answer, UNKNOWN if need be.
    """

    def __init__(
        self, endpoints: list[str], prefix: str = "/durakv/", user: str = "", password: str = "",
        tls: str | None = None, timeout_ms: int = TIMEOUT_MS,
    ) -> None:  # fmt: skip
        """Raises ValueError that says what to correct."""
        if not endpoints:
            raise ValueError("no endpoint of an etcd is given; name one or more as host:port")
        self.endpoints = [host_and_port(endpoint) for endpoint in endpoints]
        self.prefix = prefix
        self.user = user
        self.password = password
        self.tls = tls
        self.timeout_ms = timeout_ms


class _Ask:
    """One request of a call. ``changes``: it must not be sent twice."""

    __slots__ = ("body", "changes", "path")

    def __init__(self, path: str, body: Json, *, changes: bool = False) -> None:
        self.path = path
        self.body = body
        self.changes = changes


class _Failed(Exception):
    """etcd refused the request: it had no effect and never will."""


_Steps = Generator[_Ask, Json, HolderAnswer]


class _Task:
    """A call under way: its steps, and the exchange that is open."""

    __slots__ = ("ask", "call", "exchange", "left", "logged_in", "steps", "timer")

    def __init__(self, call: HolderCall, steps: _Steps) -> None:
        self.call = call
        self.steps = steps
        self.ask: _Ask | None = None
        self.exchange: Exchange | None = None
        self.timer: Timer | None = None
        # Endpoints not asked in this round, the next one last.
        self.left: list[int] = []
        self.logged_in = False


class EtcdHolder:
    """Implements HolderPort."""

    def __init__(
        self, clock: Clock, network: Network, options: EtcdOptions, cluster_id: bytes,
        on_answer: Callable[[HolderAnswer], None],
    ) -> None:  # fmt: skip
        """Raises ValueError when the extra is not installed."""
        if _MISSING:
            raise ValueError(NO_H11)
        self._clock = clock
        self._options = options
        self._root = f"{options.prefix}{cluster_id.hex()}/".encode()
        self._on_answer = on_answer
        self._places = [HttpPlace(network, clock, host, port, options.tls) for host, port in options.endpoints]
        # The endpoint that answered last.
        self._good = 0
        self._token = ""
        # The login under way, and the calls that wait for it with the endpoints they are at.
        self._login: Exchange | None = None
        self._login_timer: Timer | None = None
        self._waiting: dict[_Task, int] = {}
        self._tasks: dict[_Task, None] = {}
        # The lease of etcd's that this primary holds a shard's office by.
        self._leases: dict[int, int] = {}
        self._closed = False
        self._answered = 0
        self._unknown = 0
        self._answered_ns = -1
        self._trouble = ""

    # -- HolderPort ----------------------------------------------------------------------------------------------------

    def submit(self, call: HolderCall) -> None:
        """See HolderPort."""
        if self._closed:
            return
        task = _Task(call, self._steps(call))
        self._tasks[task] = None
        task.timer = self._clock.call_later(self._options.timeout_ms, lambda: self._late(task))
        self._clock.call_soon(lambda: self._begin(task))

    def close(self) -> None:
        """Answer nothing more and hang up."""
        self._closed = True
        for task in self._tasks:
            if task.timer is not None:
                task.timer.cancel()
            if task.exchange is not None:
                task.exchange.abandon()
            task.steps.close()
        self._tasks.clear()
        self._waiting.clear()
        if self._login is not None and self._login_timer is not None:
            self._login_timer.cancel()
            self._login.abandon()
        for place in self._places:
            place.close()

    def health(self) -> HolderHealth:
        """How etcd is, as far as this node can tell; which of its members leads is etcd's own affair."""
        age = -1 if self._answered_ns < 0 else (self._clock.monotonic_ns() - self._answered_ns) // _NS_PER_MS
        names = [place.name for place in self._places]
        return HolderHealth(
            ETCD, names, 0, age, self._answered, self._unknown, len(self._tasks), self._trouble, None
        )  # fmt: skip

    # -- running a call's steps ----------------------------------------------------------------------------------------

    def _begin(self, task: _Task) -> None:
        if task in self._tasks:
            self._step(task, lambda: next(task.steps))

    def _step(self, task: _Task, advance: Callable[[], _Ask]) -> None:
        try:
            task.ask = advance()
        except StopIteration as end:
            self._end(task, end.value)
        except _Failed as e:
            self._trouble = f"etcd refused a request: {e}"
            self._end(task, _answer(task.call, Outcome.REFUSED, Reason.NOT_SENT))
        except (ReplyError, DecodeError) as e:
            self._trouble = f"what etcd says is not understood: {e}"
            self._end(task, _answer(task.call, Outcome.UNKNOWN, Reason.NONE))
        else:
            task.left = []
            self._round(task)

    def _round(self, task: _Task) -> None:
        """All endpoints, first the one that answered last."""
        if task not in self._tasks:
            return
        count = len(self._places)
        task.left = [(self._good + count - 1 - i) % count for i in range(count)]
        self._post(task)

    def _post(self, task: _Task) -> None:
        ask = task.ask
        assert ask is not None
        if not task.left:
            self._clock.call_later(ROUND_MS, lambda: self._round(task))
            return
        at = task.left.pop()
        options = self._options
        headers: list[tuple[str, str]] = []
        if options.user:
            if not self._token:
                self._waiting[task] = at
                if self._login is None:
                    self._log_in(at)
                return
            headers.append(("Authorization", self._token))
        body = json.dumps(ask.body).encode()
        task.exchange = self._places[at].post(ask.path, headers, body, lambda reply: self._heard(task, at, reply))

    def _log_in(self, at: int) -> None:
        """One login at a time serves all calls, and goes on when those that wait for it end."""
        login = {"name": self._options.user, "password": self._options.password}
        late = Reply(0, b"", f"no answer within {LOGIN_MS} ms")
        self._login_timer = self._clock.call_later(LOGIN_MS, lambda: self._logged_in(at, late))
        self._login = self._places[at].post(
            etcd_json.AUTHENTICATE, [], json.dumps(login).encode(), lambda reply: self._logged_in(at, reply)
        )

    def _logged_in(self, at: int, reply: Reply) -> None:
        assert self._login is not None and self._login_timer is not None
        self._login.abandon()
        self._login_timer.cancel()
        self._login = self._login_timer = None
        waiting, self._waiting = self._waiting, {}
        self._token = _token(reply)
        code, text = etcd_json.error_of(reply.body)
        if not self._token:
            why = reply.why or text
            self._trouble = f"etcd at {self._places[at].name} does not let user {self._options.user} in: {why}"
        if not reply.status and self._good == at:
            # The next call begins elsewhere.
            self._good = (at + 1) % len(self._places)
        for task, where in waiting.items():
            if self._token:
                task.left.append(where)
                self._post(task)
            elif reply.status and code in etcd_json.DEFINITE:
                self._end(task, _answer(task.call, Outcome.REFUSED, Reason.NOT_SENT))
            else:
                self._post(task)

    def _heard(self, task: _Task, at: int, reply: Reply) -> None:
        ask = task.ask
        task.exchange = None
        assert ask is not None
        if reply.status == 200:
            try:
                document = etcd_json.parse(reply.body)
            except ReplyError as e:
                # The request was carried out; only what came of it is not known.
                self._lost(task, at, f"what it says is not understood: {e}", changes=ask.changes)
                return
            self._good = at
            self._step(task, lambda: task.steps.send(document))
            return
        if reply.status == 0:
            self._lost(task, at, reply.why, changes=ask.changes and reply.sent)
            return
        code, text = etcd_json.error_of(reply.body)
        if code == etcd_json.UNAUTHENTICATED and self._options.user and not task.logged_in:
            # The token has expired, or etcd was started anew.
            task.logged_in = True
            self._token = ""
            task.left.append(at)
            self._post(task)
        elif code in etcd_json.DEFINITE:
            self._step(task, lambda: task.steps.throw(_Failed(text)))
        else:
            self._lost(task, at, text, changes=ask.changes)

    def _lost(self, task: _Task, at: int, why: str, *, changes: bool) -> None:
        self._trouble = f"etcd at {self._places[at].name} gives no answer: {why}"
        if changes:
            self._end(task, _answer(task.call, Outcome.UNKNOWN, Reason.NONE))
        else:
            self._post(task)

    def _late(self, task: _Task) -> None:
        exchange, task.exchange = task.exchange, None
        sent = exchange is not None and exchange.abandon()
        self._trouble = self._trouble or f"etcd gives no answer within {self._options.timeout_ms} ms"
        if sent and task.ask is not None and task.ask.changes:
            self._end(task, _answer(task.call, Outcome.UNKNOWN, Reason.NONE))
        else:
            self._end(task, _answer(task.call, Outcome.REFUSED, Reason.NOT_SENT))

    def _end(self, task: _Task, answer: HolderAnswer) -> None:
        del self._tasks[task]
        self._waiting.pop(task, None)
        task.steps.close()
        assert task.timer is not None
        task.timer.cancel()
        self._answered += 1
        if answer.outcome == Outcome.UNKNOWN:
            self._unknown += 1
        elif answer.reason != Reason.NOT_SENT:
            self._answered_ns = self._clock.monotonic_ns()
            self._trouble = ""
        self._on_answer(answer)

    # -- the calls -----------------------------------------------------------------------------------------------------

    def _steps(self, call: HolderCall) -> _Steps:
        if isinstance(call, CreateCall):
            return self._create(call)
        if isinstance(call, CasCall):
            return self._cas(call)
        if isinstance(call, RenewCall):
            return self._renew(call)
        if isinstance(call, ForceCall):
            return self._force(call)
        assert isinstance(call, ReadCall)
        return self._read(call)

    def _config_key(self, shard: int) -> bytes:
        return self._root + b"%d/config" % shard

    def _office_key(self, shard: int) -> bytes:
        return self._root + b"%d/office" % shard

    def _create(self, call: CreateCall) -> _Steps:
        if call.config.epoch != 1 or call.config.forced_epoch:
            return _answer(call, Outcome.REFUSED, Reason.INVALID)
        key = self._config_key(call.shard)
        body = txn([absent(key)], [put(key, call.config.encode())], [key])
        done, got = etcd_json.txn_reply((yield _Ask(etcd_json.TXN, body, changes=True)))
        if done:
            return _answer(call, Outcome.OK, Reason.NONE, call.config)
        there = _config(got[0]) if got else None
        if there is not None and there == call.config:
            return _answer(call, Outcome.OK, Reason.NONE, there)
        return _answer(call, Outcome.REFUSED, Reason.INVALID, there)

    def _read(self, call: ReadCall) -> _Steps:
        found = etcd_json.found((yield _Ask(etcd_json.RANGE, get(self._config_key(call.shard)))))
        config = _config(found)
        if config is None:
            return _answer(call, Outcome.REFUSED, Reason.MISSING)
        return _answer(call, Outcome.OK, Reason.NONE, config)

    def _cas(self, call: CasCall) -> _Steps:
        key = self._config_key(call.shard)
        found = etcd_json.found((yield _Ask(etcd_json.RANGE, get(key))))
        current = _config(found)
        if current is None or found is None:
            return _answer(call, Outcome.REFUSED, Reason.MISSING)
        if call.request.number == 0:
            return _answer(call, Outcome.REFUSED, Reason.INVALID, current)
        if current.request == call.request:
            return _answer(call, Outcome.OK, Reason.NONE, current)
        reason = judge_cas(current, call)
        if reason != Reason.NONE:
            return _answer(call, Outcome.REFUSED, reason, current)
        body = txn([unchanged(key, found.mod_revision)], [put(key, call.config.encode())], [key])
        done, got = etcd_json.txn_reply((yield _Ask(etcd_json.TXN, body, changes=True)))
        if done:
            return _answer(call, Outcome.OK, Reason.NONE, call.config)
        return _overtaken(call, current, got[0] if got else None)

    def _force(self, call: ForceCall) -> _Steps:
        key, office = self._config_key(call.shard), self._office_key(call.shard)
        both = txn([], [{"request_range": get(key)}, {"request_range": get(office)}], [])
        _, got = etcd_json.txn_reply((yield _Ask(etcd_json.TXN, both)))
        if len(got) != 2:
            raise ReplyError("two keys were asked for")
        found = got[0]
        current = _config(found)
        if current is None or found is None:
            return _answer(call, Outcome.REFUSED, Reason.MISSING)
        if call.request.number == 0:
            return _answer(call, Outcome.REFUSED, Reason.INVALID, current)
        if current.request == call.request:
            return _answer(call, Outcome.OK, Reason.NONE, current)
        reason = judge_force(current, call, leased=got[1] is not None)
        if reason != Reason.NONE:
            return _answer(call, Outcome.REFUSED, reason, current)
        new = forced(current, call)
        body = txn([absent(office), unchanged(key, found.mod_revision)], [put(key, new.encode())], [key, office])
        done, got = etcd_json.txn_reply((yield _Ask(etcd_json.TXN, body, changes=True)))
        if done:
            return _answer(call, Outcome.OK, Reason.NONE, new)
        if len(got) == 2 and got[1] is not None and got[0] is not None and got[0].mod_revision == found.mod_revision:
            return _answer(call, Outcome.REFUSED, Reason.LEASED, current)
        return _overtaken(call, current, got[0] if got else None)

    def _renew(self, call: RenewCall) -> _Steps:
        key, office = self._config_key(call.shard), self._office_key(call.shard)
        if not 0 < call.grace_ns <= GRACE_NS_MAX:
            current = _config(etcd_json.found((yield _Ask(etcd_json.RANGE, get(key)))))
            if current is None:
                return _answer(call, Outcome.REFUSED, Reason.MISSING)
            held = (call.epoch, call.request.node) == (current.epoch, current.primary)
            return _answer(call, Outcome.REFUSED, Reason.INVALID if held else Reason.EPOCH, current)
        lease = yield from self._live_lease(call.shard, -(-call.grace_ns // _NS_PER_S))
        look = txn([held_by(office, lease)], [{"request_range": get(key)}], [key, office])
        held, got = etcd_json.txn_reply((yield _Ask(etcd_json.TXN, look)))
        found = got[0] if got else None
        current = _config(found)
        if current is None or found is None:
            return _answer(call, Outcome.REFUSED, Reason.MISSING)
        if (call.epoch, call.request.node) != (current.epoch, current.primary):
            return _answer(call, Outcome.REFUSED, Reason.EPOCH, current)
        if held:
            return _answer(call, Outcome.OK, Reason.NONE, current)
        there = got[1] if len(got) > 1 else None
        value = b"%d %d" % (call.request.node, call.epoch)
        if there is not None and there.value == value:
            # Another renewal of this reign has put it there, and what that one promised must not end sooner.
            self._leases[call.shard] = there.lease
            return _answer(call, Outcome.UNKNOWN, Reason.NONE, current)
        # Nobody may have been promoted, nor the office taken, between the look and this.
        asked = [unchanged(key, found.mod_revision), unchanged(office, 0 if there is None else there.mod_revision)]
        body = txn(asked, [put(office, value, lease)], [key])
        done, got = etcd_json.txn_reply((yield _Ask(etcd_json.TXN, body, changes=True)))
        if done:
            return _answer(call, Outcome.OK, Reason.NONE, current)
        return _overtaken(call, current, got[0] if got else None)

    def _live_lease(self, shard: int, ttl_s: int) -> Generator[_Ask, Json, int]:
        """A lease of etcd's that from now on, a time after the call was made, lasts for ``ttl_s`` at least.

        One at a time in a process: a transaction that puts the office under an old one may arrive late, and must find
        that this one has expired.
        """
        while True:
            lease = self._leases.get(shard, 0)
            if lease:
                reply = yield _Ask(etcd_json.KEEP_ALIVE, {"ID": str(lease)})
                result = reply.get("result")
                if not isinstance(result, dict):
                    raise ReplyError("a lease's renewal without a result")
                if etcd_json.number(result, "TTL") >= ttl_s:
                    return lease
                # Expired. Two renewals may find that at once.
                if self._leases.get(shard) == lease:
                    del self._leases[shard]
            # Granted twice, one of the two expires unused: it changes nothing anybody looks at.
            reply = yield _Ask(etcd_json.GRANT, {"TTL": str(ttl_s)})
            lease = etcd_json.number(reply, "ID")
            if not lease or etcd_json.number(reply, "TTL") < ttl_s:
                raise ReplyError("a lease was granted for less than was asked")
            if self._leases.setdefault(shard, lease) == lease:
                return lease


def _token(reply: Reply) -> str:
    """What a login gave; empty for nothing."""
    if reply.status != 200:
        return ""
    try:
        token = etcd_json.parse(reply.body).get("token")
    except ReplyError:
        return ""
    return token if isinstance(token, str) else ""


def _config(found: Found | None) -> ShardConfig | None:
    """Raises DecodeError."""
    return None if found is None else ShardConfig.decode(found.value)


def _answer(call: HolderCall, outcome: int, reason: int, config: ShardConfig | None = None) -> HolderAnswer:
    return HolderAnswer(call.call_id, outcome, reason, config)


def _overtaken(call: CasCall | ForceCall | RenewCall, seen: ShardConfig, found: Found | None) -> HolderAnswer:
    """The transaction found that the configuration was written since: it had no effect and never will."""
    now = _config(found)
    if now is None:
        return _answer(call, Outcome.REFUSED, Reason.MISSING)
    if now.request == call.request and not isinstance(call, RenewCall):
        # An earlier sending of the same wish.
        return _answer(call, Outcome.OK, Reason.NONE, now)
    if now.epoch > seen.epoch:
        return _answer(call, Outcome.REFUSED, Reason.EPOCH, now)
    return _answer(call, Outcome.UNKNOWN, Reason.NONE, now)
