"""Hostile bytes, clients that do not read, too many clients, and the end of a proxy."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import psutil
import pytest
import redis

from tests.live.group import free_ports
from tests.proxy.cluster import HOST, ProxyProcess, eventually, plain

pytestmark = pytest.mark.live


def exchange(port: int, data: bytes, *, shut: bool = True) -> bytes:
    """Send bytes, return everything until the proxy closes."""
    with socket.create_connection((HOST, port), 5) as s:
        s.settimeout(10)
        got = b""
        try:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
            while piece := s.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        return got


def test_bytes_that_are_no_requests(proxy, client):
    cases = [
        (b"*1\r\n+PING\r\n", b"-ERR Protocol error: expected '$', got '+'\r\n"),
        (b"*99999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$999999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b'GET "unclosed\r\n', b"-ERR Protocol error: unbalanced quotes in request\r\n"),
        (b"PING\r\n*1\r\n$4\r\nPING\r\n*x\r\n", b"+PONG\r\n+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"*0\r\n\r\n*-1\r\nPING\r\n", b"+PONG\r\n"),
    ]
    for data, expected in cases:
        assert exchange(proxy.port, data) == expected, data
    assert client.ping() is True


def test_requests_cannot_be_smuggled_into_a_shared_connection(proxy, client):
    """Bytes that nodes might read differently are written anew, so nobody's replies shift."""
    client.set("victim", "safe")
    tricks = [
        b"*2\r\n$3\r\nGETXX$6\r\nvictim\r\n", b"*1\r\n$4\r\nPING\r\n\r\n\r\n", b'ECHO "a\\r\\n+OK\\r\\n"\r\n',
        b"*2\r\n$4\r\nECHO\r\n$8\r\n\r\nPING\r\n\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$14\r\n\r\nGET victim\r\n\r\n",
    ]  # fmt: skip
    for trick in tricks * 5:
        exchange(proxy.port, trick)
        assert client.get("victim") == b"safe"
        assert client.echo("mine") == b"mine"


def test_random_bytes_do_no_harm(proxy, client):
    dice = random.Random(5)
    alphabet = b'* $ \r\n 1 3 - GET SET \0 MULTI \xff " EXEC a'.split(b" ")
    alphabet.append(b" ")
    for _ in range(300):
        exchange(proxy.port, b"".join(dice.choice(alphabet) for _ in range(dice.randrange(60))))
    assert client.set("x", "1") is True
    assert client.get("x") == b"1"


def test_requests_in_single_bytes(proxy):
    with socket.create_connection((HOST, proxy.port), 5) as s:
        s.settimeout(5)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n":
            s.sendall(bytes([byte]))
        got = b""
        while len(got) < 13:
            got += s.recv(100)
        assert got == b"+OK\r\n$2\r\nvv\r\n"


@pytest.fixture
def strict(cluster):
    options = ("--max-clients", "4", "--max-request-mb", "1", "--max-unread-mb", "8", "--metrics", f"{HOST}:0",
               "--timeout", "1")  # fmt: skip
    with ProxyProcess([node.port for node in cluster.masters], *options) as made:
        yield made


def test_a_client_that_does_not_read_is_not_served_on(proxy, client):
    """Its requests stay in its own socket; the proxy's memory does not grow with what it asks for."""
    client.set("big", b"x" * 200_000)
    process = psutil.Process(proxy.process.pid)
    before = process.memory_info().rss
    with socket.create_connection((HOST, proxy.port), 5) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.setblocking(False)
        request = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n" * 100
        sent = 0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            try:
                sent += s.send(request)
            except BlockingIOError:
                time.sleep(0.05)
        # 200 kB for every 22 bytes: had the proxy gone on, this would be gigabytes.
        assert sent > 100_000
        assert process.memory_info().rss - before < 60 << 20
        assert client.get("big") == b"x" * 200_000


def test_a_client_above_the_limit_of_unread_replies_is_disconnected(strict):
    client = strict.client()
    client.set("big", b"x" * 1_000_000)
    with socket.create_connection((HOST, strict.port), 5) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n" * 16)
        eventually(lambda: client.info("proxy")["proxy_clients_dropped_slow_total"] == 1)
    assert "bytes unread, the limit is 8388608" in strict.log_text()


def test_a_slow_reader_gets_everything(proxy, client):
    client.set("big", b"y" * 100_000)
    with socket.create_connection((HOST, proxy.port), 5) as s:
        s.settimeout(10)
        count = 300
        threading.Thread(target=lambda: s.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n" * count)).start()
        time.sleep(0.5)
        total = 0
        while total < count * (100_000 + 11):
            piece = s.recv(1 << 20)
            assert piece
            total += len(piece)
            if total < 3_000_000:
                time.sleep(0.01)
        assert total == count * (100_000 + 11)


def test_too_large_too_many_too_silent(strict):
    assert exchange(strict.port, b"*2\r\n$3\r\nGET\r\n$2000000\r\n" + b"x" * 100) == (
        b"-ERR Protocol error: invalid bulk length\r\n"
    )
    held = [socket.create_connection((HOST, strict.port), 5) for _ in range(4)]
    for s in held:
        s.sendall(b"PING\r\n")
        assert s.recv(100) == b"+PONG\r\n"
    assert exchange(strict.port, b"", shut=False) == b"-ERR max number of clients reached\r\n"
    # All four are silent for longer than --timeout.
    for s in held:
        s.settimeout(5)
        assert s.recv(100) == b""
        s.close()
    assert strict.client().ping() is True


def test_metrics_and_health(strict):
    port = int(strict.log_text().split("metrics port ")[1].split()[0])
    strict.client().get("a")
    text = urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5).read().decode()
    values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    assert int(values["durakv_proxy_requests_total"]) >= 1
    assert values["durakv_proxy_groups"] == "3"
    assert text.count("# TYPE") == len(values)
    assert urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5).read() == b"ok\n"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://{HOST}:{port}/other", timeout=5)


def test_a_stop_answers_what_was_asked(cluster):
    with ProxyProcess([node.port for node in cluster.masters]) as made:
        idle = socket.create_connection((HOST, made.port), 5)
        blocked = socket.create_connection((HOST, made.port), 5)
        blocked.sendall(b"BLPOP nothing 0\r\n")
        busy = socket.create_connection((HOST, made.port), 5)
        busy.settimeout(10)
        busy.sendall(b"".join(b"*3\r\n$3\r\nSET\r\n$3\r\nk%02d\r\n$1\r\nv\r\n" % (i % 90) for i in range(3000)))
        time.sleep(0.02)
        assert made.stop() == 0
        got = b""
        while piece := busy.recv(65536):
            got += piece
        assert got.count(b"+OK\r\n") * 5 == len(got)
        for s in (idle, blocked, busy):
            s.close()
        assert "event=stopped exit code 0" in made.log_text()


def test_bad_starts_say_why():
    port = free_ports(1)[0]
    with socket.socket() as taken:
        taken.bind((HOST, port))
        taken.listen()
        cases = [
            (["--node", f"{HOST}:1", "--listen", f"{HOST}:{port}"], "another process does"),
            (["--node", f"{HOST}:{port}", "--listen", f"{HOST}:{port}"], "is this proxy itself"),
            (["--node", "nonsense"], "nonsense"),
            ([], "--node"),
            (["--node", f"{HOST}:1", "--tls-cert-file", os.devnull], "--tls-key-file"),
        ]
        for options, expected in cases:
            command = [sys.executable, "-m", "durakv", "proxy", *options]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            assert done.returncode in (1, 2)
            assert expected in done.stderr


def test_two_proxies_of_one_cluster(cluster, proxy, client):
    with ProxyProcess([cluster.masters[2].port]) as second:
        other = plain(second.port)
        assert client.set("shared", "1") is True
        assert other.get("shared") == b"1"
        assert other.incr("shared") == 2
        assert client.get("shared") == b"2"


def test_tls_on_both_sides(cluster, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on the PATH")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True,
    )  # fmt: skip
    options = ("--tls-cert-file", str(cert), "--tls-key-file", str(key))
    with ProxyProcess([node.port for node in cluster.masters], *options) as made:
        secure = plain(made.port, ssl=True, ssl_ca_certs=str(cert))
        assert secure.set("tls", "1") is True
        assert secure.mget("tls", "other") == [b"1", None]
        assert b"+PONG" not in exchange(made.port, b"PING\r\n")
        secure.close()
        # To this one the first is a node that speaks TLS and knows of no cluster.
        with ProxyProcess([made.port], "--node-tls-ca-cert-file", str(cert)) as second:
            assert second.client().mget("tls", "other") == [b"1", None]


def test_a_script_cannot_lead_the_proxy_elsewhere(cluster):
    """Else whoever may run scripts would get other users' requests, and their passwords."""
    with socket.socket() as trap, ProxyProcess([n.port for n in cluster.masters], "--retry-timeout-ms", "300") as made:
        trap.bind((HOST, 0))
        trap.listen()
        trap.settimeout(0.5)
        own = made.client(protocol=2)
        own.set("foo", "1")
        for word in ("MOVED", "ASK"):
            script = f"return redis.error_reply('{word} 12182 {HOST}:{trap.getsockname()[1]}')"
            with pytest.raises(redis.ResponseError, match="was redirected for 300 ms"):
                own.eval(script, 1, "foo")
            with pytest.raises(redis.RedisError):
                own.eval(script.replace("12182", "5061"), 1, "foo")
            assert own.get("foo") == b"1"
        with pytest.raises(TimeoutError):
            trap.accept()
