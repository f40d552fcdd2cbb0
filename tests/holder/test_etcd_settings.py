"""An etcd as config holder, as the directives describe it: login, prefix of the keys, TLS; and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from durakv.config.load import load
from durakv.config.settings import Settings
from durakv.holding import Ports, connect_holder, refuse_etcd_settings
from durakv.observe.events import Event
from durakv.process import read_text, tls_contexts
from durakv.replication.lease_holder import HolderLink
from durakv.storage.identity import Identity
from durakv.world.real_disk import RealDisk
from durakv.world.real_network import RealNetwork
from durakv.world.real_rng import RealRng
from raft.primary_backup.messages import Outcome, Reason
from tests.holder.holder_world import CLUSTER
from tests.holder.real import Loop
from tests.holder.test_etcd import ETCD, Etcd

needs_etcd = pytest.mark.skipif(ETCD is None, reason="no etcd on PATH: logins, prefixes and TLS are untested")


def settings_of(*words: str) -> Settings:
    return load(["--replication-mode", "lease", *words], read_text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--holder-etcd-user", "durakv"], "holder-etcd-user and holder-etcd-password go together"),
        (["--holder-etcd-password", "x"], "holder-etcd-user and holder-etcd-password go together"),
        (["--holder-etcd-tls", "yes", "--holder-etcd-key-file", "k"], "holder-etcd-key-file is the key of"),
        (["--holder-etcd-ca-file", "ca.pem"], "set holder-etcd-tls yes, or leave them out"),
        (["--holder-etcd-cert-file", "c.pem"], "set holder-etcd-tls yes, or leave them out"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        refuse_etcd_settings(settings_of("--holder-etcd", "127.0.0.1:2379", *words))


def test_a_login_without_an_etcd_is_refused() -> None:
    with pytest.raises(ValueError, match="but no etcd; name one with holder-etcd"):
        refuse_etcd_settings(settings_of("--holder-etcd-user", "u", "--holder-etcd-password", "p"))
    refuse_etcd_settings(settings_of("--holder-etcd", "h:1", "--holder-etcd-user", "u", "--holder-etcd-password", "p"))


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for words, said in (
        (["--holder-etcd-ca-file", "/nowhere/ca.pem"], "/nowhere/ca.pem: No such file"),
        (["--holder-etcd-ca-file", str(tmp_path / "no.pem")], "no.pem: .*authorities' certificates in PEM"),
        (["--holder-etcd-cert-file", str(tmp_path / "no.pem")], "no.pem: .*a certificate and its key in PEM"),
    ):
        with pytest.raises(ValueError, match=f"holder-etcd-tls: .*{said}"):
            tls_contexts(settings_of("--holder-etcd-tls", "yes", *words))
    assert list(tls_contexts(settings_of("--holder-etcd-tls", "yes"))) == ["holder-etcd"]
    assert tls_contexts(settings_of()) == {}


class Node:
    """What a data node with these settings has of its config holder."""

    def __init__(self, settings: Settings, patience_ms: int = 3000) -> None:
        self.loop = Loop()
        network = RealNetwork(self.loop.loop, contexts=tls_contexts(settings))
        disk = RealDisk(self.loop.loop.call_soon_threadsafe)
        self.link = HolderLink()
        ports = Ports(self.loop.clock, RealRng(), disk, network)
        connect_holder(ports, settings, Identity(CLUSTER, 1, 0), patience_ms, self.link, self, fatal)
        disk.close()
        self.link.on_answer = self.loop.answered

    def event(self, event: Event) -> None:
        """See Observer."""

    def trouble(self) -> str:
        return str(dict(self.link.rows())["holder_trouble"])

    def create(self) -> int:
        return self.loop.ask(self.link, self.loop.create()).outcome

    def close(self) -> None:
        self.link.close()
        self.loop.close()


def fatal(error: OSError) -> None:
    raise error


class SlowLogin(BaseHTTPRequestHandler):
    """As much of etcd as logs in after longer than a call may take, and has no key."""

    protocol_version = "HTTP/1.1"
    logins = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"{}"
        if self.path.endswith("/authenticate"):
            SlowLogin.logins += 1
            time.sleep(0.7)
            body = b'{"token": "sesame"}'
        elif self.headers["Authorization"] != "sesame":
            body = b'{"code": 16}'
        self.send_response(400 if b"code" in body else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.mark.live
def test_a_login_that_takes_longer_than_a_call_is_made_once_and_serves_later_calls() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowLogin)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    words = ["--holder-etcd-user", "u", "--holder-etcd-password", "p"]
    node = Node(settings_of("--holder-etcd", f"127.0.0.1:{server.server_port}", *words), patience_ms=250)
    try:
        calls = [node.loop.read() for _ in range(3)]
        for call in calls:
            node.link.submit(call)
        node.loop.wait(lambda: len(node.loop.answers) == 3)
        assert {answer.reason for answer in node.loop.answers.values()} == {Reason.NOT_SENT}
        node.loop.pass_s(0.8)
        assert node.loop.ask(node.link, node.loop.read()).reason == Reason.MISSING
        assert (SlowLogin.logins, node.trouble()) == (1, "")
    finally:
        node.close()
        server.shutdown()
        thread.join(10)
        server.server_close()


@needs_etcd
@pytest.mark.live
def test_a_login_and_a_prefix(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "data")
    etcd.start()
    nodes: list[Node] = []
    try:
        etcd.post("/v3/auth/user/add", {"name": "root", "password": "secret"})
        etcd.post("/v3/auth/user/grant", {"user": "root", "role": "root"})
        etcd.post("/v3/auth/user/add", {"name": "keeper", "password": "of keys"})
        etcd.post("/v3/auth/role/add", {"name": "below"})
        # All keys that begin with /team/, and no others.
        below = {"permType": "READWRITE", "key": "L3RlYW0v", "range_end": "L3RlYW0w"}
        etcd.post("/v3/auth/role/grant", {"name": "below", "perm": below})
        etcd.post("/v3/auth/user/grant", {"user": "keeper", "role": "below"})
        etcd.post("/v3/auth/enable", {})
        words = ["--holder-etcd", f"127.0.0.1:{etcd.port}", "--holder-etcd-user", "keeper"]
        node = Node(settings_of(*words, "--holder-etcd-password", "of keys", "--holder-etcd-prefix", "/team/durakv/"))
        nodes.append(node)
        assert node.create() == Outcome.OK
        # Its own part is all that the user may touch.
        nodes.append(Node(settings_of(*words, "--holder-etcd-password", "of keys")))
        assert nodes[-1].create() == Outcome.REFUSED
        assert "permission denied" in nodes[-1].trouble()
        nodes.append(Node(settings_of(*words, "--holder-etcd-password", "a guess")))
        assert nodes[-1].create() == Outcome.REFUSED
        assert "does not let user keeper in" in nodes[-1].trouble()
    finally:
        for each in nodes:
            each.close()
        etcd.stop()


@needs_etcd
@pytest.mark.live
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH: TLS to an etcd is untested")
def test_tls_with_a_certificate_of_the_node(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    etcd = Etcd(
        tmp_path / "data", "https",
        ("--cert-file", certificate, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", certificate),
    )  # fmt: skip
    etcd.start()
    nodes: list[Node] = []
    try:
        words = ["--holder-etcd", f"127.0.0.1:{etcd.port}", "--holder-etcd-tls", "yes", "--holder-etcd-ca-file",
                 certificate]  # fmt: skip
        node = Node(settings_of(*words, "--holder-etcd-cert-file", certificate, "--holder-etcd-key-file", key))
        nodes.append(node)
        deadline = time.monotonic() + 15
        while node.create() != Outcome.OK:
            assert time.monotonic() < deadline, node.trouble()
        # One without a certificate, and one that does not trust etcd's.
        for wrong in (words, words[:4]):
            nodes.append(Node(settings_of(*wrong)))
            assert nodes[-1].create() != Outcome.OK
            assert "gives no answer" in nodes[-1].trouble()
    finally:
        for each in nodes:
            each.close()
        etcd.stop()
