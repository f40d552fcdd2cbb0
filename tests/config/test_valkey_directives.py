"""Every directive of a live valkey-server is known here, with its default, and takes and refuses the same values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from durakv.config.settings import ConfigError, Settings
from durakv.observe.redact import redacted
from tests.commands.reference_server import running

pytestmark = pytest.mark.live

# Name -> why its default is another one.
DEFAULTS = {
    "appendfsync": "an acknowledged write is on disk",
    "appendonly": "the log is always on",
    "bind": "only this machine until the user says otherwise",
    "log-format": "lines for programs",
}
# Given to the reference by its caller, or the place it runs at.
GIVEN = {"port", "bind", "dir", "save", "pidfile", "enable-debug-command"}
# Refused although Valkey takes them: name -> a value that asks for what durakv does not have.
REFUSED = {
    "activedefrag": "yes", "bind-source-addr": "10.0.0.1", "import-mode": "yes", "locale-collate": "C.UTF-8",
    "oom-score-adj": "yes", "appendonly": "no", "replica-read-only": "no", "slave-read-only": "no",
}  # fmt: skip
# Changing these would cut the connection to the reference or slow the test.
UNTOUCHED = {
    "port", "bind", "tls-port", "tls-cluster", "tls-replication", "requirepass", "maxclients", "dir", "timeout",
    "maxmemory",
    "client-query-buffer-limit", "maxmemory-clients", "proto-max-bulk-len", "save", "replicaof", "loglevel", "hz",
    "primaryauth", "masterauth", "protected-mode", "watchdog-period",
}  # fmt: skip
BAD = ("-5", "99999999999999999999", "x", "1e3", "yes", "no", "4 4", "10mb", "101%", "1")
# (name, value): valkey's reader of numbers wraps them around, or it takes any text for a template.
LENIENT = {
    ("cluster-link-sendbuf-limit", "99999999999999999999"), ("cluster-blacklist-ttl", "-5"),
    ("cluster-announce-human-nodename", "101%"),
}  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    with running() as connect:
        talk = connect()
        if b"valkey_version" not in talk("INFO", "server"):
            pytest.skip("needs valkey-server on PATH")
        yield talk


def theirs(reference: Any) -> dict[str, str]:
    flat = [item.decode() for item in reference("CONFIG", "GET", "*")]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_every_name_is_known_and_shown(reference: Any) -> None:
    assert set(theirs(reference)) - dict(Settings().get("*")).keys() == set()


def test_defaults_are_those_of_valkey(reference: Any) -> None:
    ours = dict(Settings().get("*"))
    shown = theirs(reference).items()
    different = {name for name, text in shown if name not in GIVEN and ours[name] != text}
    assert different <= DEFAULTS.keys()


def test_the_same_values_are_taken_and_refused(reference: Any) -> None:
    different: list[Any] = []
    for name, now in theirs(reference).items():
        if name in UNTOUCHED or name in REFUSED or name.endswith("cpulist"):
            continue
        settings = Settings()
        for value in (now, *BAD):
            reply = str(reference("CONFIG", "SET", name, value))
            try:
                settings.set(name, value)
                refusal = ""
            except ConfigError as e:
                refusal = e.reason
            if ("OK" in reply) != (not refusal) and (name, value) not in LENIENT and "protected config" not in reply:
                different.append((name, value, refusal, reply))
        reference("CONFIG", "SET", name, now)
    assert different == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_relied_on_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings().set(name, REFUSED[name])
    assert len(refused.value.reason) > len("can't set immutable config")


def test_a_share_of_memory_is_kept_as_written() -> None:
    settings = Settings()
    settings.set("maxmemory-clients", "5%")
    assert settings.text("maxmemory-clients") == "5%"
    settings.set("maxmemory-clients", "1mb")
    assert settings.text("maxmemory-clients") == "1048576"
    for text in ("101%", "-1", "x%", "%"):
        with pytest.raises(ConfigError):
            settings.set("maxmemory-clients", text)


def test_passphrases_of_keys_are_secrets() -> None:
    assert b"hush" not in redacted([b"CONFIG", b"SET", b"tls-key-file-pass", b"hush"])
