"""Real clients connect, look around and find the leader: redis-py, RedisCluster and redis-cli against a fake node."""

from __future__ import annotations

import shutil
import socket
import socketserver
import subprocess
import threading

import hiredis
import pytest

from durakv.commands.services import Member
from tests.commands.fake_services import FakeNode, wire

pytestmark = pytest.mark.live


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        node = self.server.node
        with self.server.lock:
            s = node.client()
        reader = hiredis.Reader()
        while not s.sink.closed:
            data = self.request.recv(65536)
            if not data:
                break
            reader.feed(data)
            while (argv := reader.gets()) is not False:
                with self.server.lock:
                    self.request.sendall(wire(node, s, argv))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, node: FakeNode):
        super().__init__(("127.0.0.1", 0), Handler)
        self.node = node
        self.lock = threading.Lock()
        self.port = self.server_address[1]
        node.view.members = [Member(1, "127.0.0.1", self.port, self.port + 1)]


@pytest.fixture(params=[False, True], ids=["standalone", "cluster"])
def server(request):
    node = FakeNode()
    node.settings.cluster_enabled = request.param
    server = Server(node)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(server, protocol):
    redis = pytest.importorskip("redis")
    r = redis.Redis(port=server.port, protocol=protocol, client_name="me", decode_responses=True)
    try:
        assert r.ping()
        assert r.client_getname() == "me"
        assert r.client_info()["resp"] == str(protocol)
        assert r.client_list()[0]["lib-name"].startswith("redis-py")
        assert r.info("server")["redis_version"] == "7.2.4"
        assert r.info()["role"] == "master"
        assert r.config_get("maxmemory") == {"maxmemory": "0"}
        assert r.config_set("timeout", 3)
        assert r.acl_whoami() == "default"
        assert "on" in r.acl_getuser("default")["flags"]
        assert r.acl_list()[0].startswith("user default on nopass")
        assert r.slowlog_get() == []
        assert r.role()[0] in {"master", b"master"}
        assert r.command_count() > 40
        assert r.command()["get"]["first_key_pos"] == 1
        assert r.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
        assert r.time()[0] == server.node.clock.ms // 1000
        assert r.lastsave().timestamp() == server.node.clock.ms // 1000
        p = r.pubsub()
        p.subscribe("c")
        assert p.get_message(timeout=5)["type"] == "subscribe"
        assert r.publish("other", "m") == 0
        p.unsubscribe("c")
        assert p.get_message(timeout=5)["type"] == "unsubscribe"
        p.close()
    finally:
        r.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_cluster(server, protocol):
    redis = pytest.importorskip("redis")
    # Outside cluster mode as well: one group answers for all slots, and any node takes any command.
    r = redis.RedisCluster(host="127.0.0.1", port=server.port, protocol=protocol, decode_responses=True)
    try:
        assert [n.port for n in r.get_primaries()] == [server.port]
        assert r.set("k", "v")
        assert r.get("k") == "v"
        assert r.cluster_info()["cluster_state"] == "ok"
        assert r.cluster_keyslot("123456789") == 0x31C3
        assert len(r.cluster_nodes()) == 1
    finally:
        r.close()


def test_redis_cli(server):
    program = shutil.which("valkey-cli") or shutil.which("redis-cli")
    if program is None:
        pytest.skip("needs valkey-cli or redis-cli on PATH")

    def cli(*argv: str) -> str:
        done = subprocess.run([program, *argv], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    port = str(server.port)
    assert cli("-p", port, "-3", "ping") == "PONG\n"
    assert cli("-p", port, "info", "replication").startswith("# Replication")
    if server.node.settings.cluster_enabled:
        address = f"127.0.0.1:{port}"
        assert "[OK] All 16384 slots covered." in cli("--cluster", "check", address)
        assert "1 primaries" in cli("--cluster", "info", address).replace("masters", "primaries")
        assert cli("-c", "-p", port, "set", "k", "v") == "OK\n"


def test_ports_are_released():
    node = FakeNode()
    server = Server(node)
    server.server_close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", server.port))
