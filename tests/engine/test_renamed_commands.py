"""rename-command: other names, or none, for clients of a node; the log and other nodes keep the command's own."""

from __future__ import annotations

import pytest

from durakv.config.load import load_text
from durakv.config.settings import ConfigError, Settings
from tests.engine.rig import TABLE, Err, Rig


def rig_of(text: str) -> Rig:
    settings = Settings()
    load_text(settings, text, "durakv.conf", lambda path: path)
    return Rig(renames=settings.renames)


def test_a_command_answers_to_its_new_name_only_and_is_logged_under_its_own() -> None:
    rig = rig_of("rename-command SET put\nrename-command CONFIG guarded-config\n")
    client = rig.client()
    assert rig.ask(client, "SET a 1") == [Err("ERR unknown command 'SET', with args beginning with: 'a' '1' ")]
    assert rig.ask(client, "PUT a 1", "pUt b 2") == [b"OK", b"OK"]
    assert rig.ask(client, "MULTI", "PUT a 3", "EXEC")[-1] == [b"OK"]
    assert rig.ask(client, "GUARDED-CONFIG GET maxclients") == [[b"maxclients", b"10000"]]
    assert isinstance(rig.ask(client, "CONFIG GET maxclients")[0], Err)
    assert b"PUT" not in b"".join(entry.data for entry in rig.consensus.committed)
    rig.check_follower()


def test_an_empty_name_takes_the_command_away() -> None:
    rig = rig_of('rename-command FLUSHALL ""')
    client = rig.client()
    for name in ("FLUSHALL", "flushall", "FlushAll"):
        assert str(rig.ask(client, name)[0]).startswith("ERR unknown command")


def test_clients_of_other_nodes_use_the_commands_own_names() -> None:
    rig = rig_of('rename-command SET ""')
    remote = rig.engine.open_remote(2, 77)
    rig.engine.dispatch(remote, [b"SET", b"a", b"1"])
    rig.settle()
    assert remote.out == [b"+OK\r\n"]


def test_a_follower_sends_on_the_commands_own_name() -> None:
    rig = rig_of("rename-command SET put")
    rig.consensus.follow()
    rig.client().send("PUT a 1")
    assert rig.forwarder.sent[0][1] == [b"SET", b"a", b"1"]


@pytest.mark.parametrize(
    ("renames", "reason"),
    [([("NOPE", "x")], "there is no command 'NOPE'"), ([("SET", "get")], "the name 'get' is taken")],
)
def test_wrong_renames_are_refused(renames: list[tuple[str, str]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TABLE.renamed(renames)


def test_a_rename_needs_both_names() -> None:
    with pytest.raises(ConfigError, match="needs a command and its new name"):
        rig_of("rename-command SET")
