"""An etcd in the simulator: keys with revisions, leases by its own clock, transactions, all behind HTTP.

Every transaction that changed something is noted, with when; replies may be held back or never come.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from random import Random

import h11

from jstyle.sim.clock import OpenDoor
from jstyle.sim.net import Fabric, HostNetwork, NetOptions
from jstyle.sim.timeline import MS, Timeline
from tests.witness.fakes import FakeClock

PORT = 2379


class FakeEtcd:
    def __init__(self, timeline: Timeline, fabric: Fabric, random: Random) -> None:
        self.timeline = timeline
        self.random = random
        self.revision = 1
        # value, mod revision, create revision, lease
        self.keys: dict[bytes, tuple[bytes, int, int, int]] = {}
        # when it expires, its TTL
        self.leases: dict[int, tuple[int, int]] = {}
        self.lease_id = 100
        # (when, key, value) of every write of a transaction
        self.written: list[tuple[int, bytes, bytes]] = []
        # Chances: no reply, a late one, an error instead of what was done, an error and nothing done.
        self.silent = self.late = self.lying = self.refusing = 0.0
        fabric.host("etcd").start(OpenDoor())
        HostNetwork(fabric, "etcd").listen("etcd", PORT, lambda: _Session(self))

    def handle(self, path: str, body: dict) -> tuple[int, dict | bytes]:
        self.expire()
        if self.random.random() < self.refusing:
            return 503, {"error": "etcdserver: no leader", "code": 14}
        done = getattr(self, "do_" + path.removeprefix("/v3/").replace("/", "_"))(body)
        if self.random.random() < self.lying:
            return 503, {"error": "etcdserver: request timed out", "code": 14}
        return 200, done

    def expire(self) -> None:
        for lease, (until_ns, _) in list(self.leases.items()):
            if self.timeline.now_ns >= until_ns:
                del self.leases[lease]
                for key, row in list(self.keys.items()):
                    if row[3] == lease:
                        del self.keys[key]

    def do_kv_range(self, body: dict) -> dict:
        row = self.keys.get(b64decode(body["key"]))
        if row is None:
            return {"header": {}}
        value, mod, create, lease = row
        out = {"key": body["key"], "value": b64encode(value).decode(), "mod_revision": str(mod),
               "create_revision": str(create), "version": "1"}  # fmt: skip
        if lease:
            out["lease"] = str(lease)
        return {"kvs": [out], "count": "1"}

    def holds(self, compare: dict) -> bool:
        row = self.keys.get(b64decode(compare["key"]))
        assert compare["result"] == "EQUAL"
        at, field = {"MOD": (1, "mod_revision"), "CREATE": (2, "create_revision"), "LEASE": (3, "lease")}[
            compare["target"]
        ]
        return (0 if row is None else row[at]) == int(compare[field]) and (row is not None or at != 3)

    def do_kv_txn(self, body: dict) -> dict:
        good = all(self.holds(compare) for compare in body["compare"])
        responses = []
        for op in body["success" if good else "failure"]:
            if "request_range" in op:
                responses.append({"response_range": self.do_kv_range(op["request_range"])})
                continue
            put = op["request_put"]
            key, value, lease = b64decode(put["key"]), b64decode(put["value"]), int(put["lease"])
            if lease and lease not in self.leases:
                return {"error": "etcdserver: requested lease not found", "code": 5}
            self.revision += 1
            create = self.keys[key][2] if key in self.keys else self.revision
            self.keys[key] = (value, self.revision, create, lease)
            self.written.append((self.timeline.now_ns, key, value))
            responses.append({"response_put": {}})
        return {"succeeded": True, "responses": responses} if good else {"responses": responses}

    def do_lease_grant(self, body: dict) -> dict:
        self.lease_id += 1
        ttl_s = max(2, int(body["TTL"]))
        self.leases[self.lease_id] = (self.timeline.now_ns + ttl_s * 1000 * MS, ttl_s)
        return {"ID": str(self.lease_id), "TTL": str(ttl_s)}

    def do_lease_keepalive(self, body: dict) -> dict:
        lease = int(body["ID"])
        if lease not in self.leases:
            return {"result": {"ID": str(lease)}}
        ttl_s = self.leases[lease][1]
        self.leases[lease] = (self.timeline.now_ns + ttl_s * 1000 * MS, ttl_s)
        return {"result": {"ID": str(lease), "TTL": str(ttl_s)}}


class _Session:
    """Implements StreamHandler."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self.etcd = etcd
        self.http = h11.Connection(our_role=h11.SERVER)
        self.stream = None
        self.path = ""
        self.body = b""

    def on_open(self, stream) -> None:
        self.stream = stream

    def on_close(self, error) -> None:
        self.stream = None

    def on_data(self, data: bytes) -> None:
        self.http.receive_data(data)
        while True:
            event = self.http.next_event()
            if isinstance(event, h11.Request):
                self.path = event.target.decode()
                self.body = b""
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.answer()
                return
            else:
                return

    def answer(self) -> None:
        etcd = self.etcd
        status, document = etcd.handle(self.path, json.loads(self.body))
        if isinstance(document, dict):
            status = 404 if "error" in document and status == 200 else status
            document = json.dumps(document).encode()
        chance = etcd.random.random()
        if chance < etcd.silent:
            # It dies, or the reply never comes.
            if etcd.random.random() < 0.5 and self.stream is not None:
                self.stream.abort()
            return
        delay_ms = etcd.random.randrange(50, 800) if chance < etcd.silent + etcd.late else 0
        etcd.timeline.at(delay_ms * MS, lambda: self.send(status, document))

    def send(self, status: int, body: bytes) -> None:
        if self.stream is None:
            return
        chunked = self.etcd.random.random() < 0.5
        headers = [("Transfer-Encoding", "chunked")] if chunked else [("Content-Length", str(len(body)))]
        if self.etcd.random.random() < 0.1:
            headers.append(("Connection", "close"))
        out = self.http.send(h11.Response(status_code=status, headers=headers)) or b""
        out += self.http.send(h11.Data(data=body)) or b""
        out += self.http.send(h11.EndOfMessage()) or b""
        self.stream.write(out)
        if self.http.our_state is h11.MUST_CLOSE:
            self.stream.close()
        else:
            self.http.start_next_cycle()


class EtcdWorld:
    """A fake etcd, and adapters of nodes 1, 2 and 4."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.timeline = Timeline()
        self.fabric = Fabric(self.timeline, seed, NetOptions(loss=(0.0, 0.05), give_up_ms=(500, 3000)), 1)
        self.etcd = FakeEtcd(self.timeline, self.fabric, self.random)
        self.clock = FakeClock(self.timeline)
        for node in (1, 2, 4):
            self.fabric.host(f"m{node}").start(OpenDoor())

    def network(self, node: int) -> HostNetwork:
        return HostNetwork(self.fabric, f"m{node}")
