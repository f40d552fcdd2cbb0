"""Users in the log: the same on every node, whatever each was configured with, and never with a password in clear."""

from __future__ import annotations

import itertools

import pytest

from durakv.acl.selector import RuleError
from durakv.acl.users import User
from durakv.config.rewrite import DiskConfigFile
from durakv.keyspace.journal import roll_back, steps
from tests.engine.rig import Client, Err, Rig
from tests.storage.sim_disk import SimDisk

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.engine.serving_changed(True, False)
    return rig


def ask(rig: Rig, client: Client, *argv: bytes) -> object:
    [reply] = rig.ask(client, list(argv))
    return reply


def set_user(rig: Rig, *rules: bytes, name: bytes = b"bob") -> object:
    return ask(rig, rig.client(), b"ACL", b"SETUSER", name, *rules)


def login(rig: Rig, name: bytes, password: bytes) -> object:
    return ask(rig, rig.client(), b"AUTH", name, password)


def test_a_user_is_logged_whole_and_without_the_password(rig: Rig) -> None:
    assert set_user(rig, b"on", b">secret", b"~a*", b"+get", b"(~b* +set)") == b"OK"
    [entry] = [entry for entry in rig.consensus.committed if entry.kind == 0]
    assert b"secret" not in entry.data
    assert login(rig, b"bob", b"secret") == b"OK"
    rig.check_follower()


@pytest.mark.parametrize(
    "password",
    [b"with spaces", b"quote'\"s", b"new\nline\r\n", b"\xff\xfe\x00\x80", EICAR, b">", b"#" + b"a" * 64, b"(" + b"x)"],
)
def test_passwords_are_bytes(rig: Rig, password: bytes) -> None:
    assert set_user(rig, b"on", b">" + password, b"+@all") == b"OK"
    assert login(rig, b"bob", password) == b"OK"
    assert isinstance(login(rig, b"bob", password + b"x"), Err)
    rig.check_follower()


def test_rotation_keeps_the_old_password_until_it_is_removed(rig: Rig) -> None:
    set_user(rig, b"on", b">old", b"+@all")
    set_user(rig, b">new")
    assert login(rig, b"bob", b"old") == login(rig, b"bob", b"new") == b"OK"
    set_user(rig, b"<old")
    assert isinstance(login(rig, b"bob", b"old"), Err)
    assert login(rig, b"bob", b"new") == b"OK"
    rig.check_follower()


def test_a_wrong_rule_changes_and_logs_nothing(rig: Rig) -> None:
    set_user(rig, b"on", b"+get", b"~a")
    before = len(rig.consensus.committed)
    reply = set_user(rig, b"+set", b"+nonsense")
    assert str(reply).startswith("ERR Error in ACL SETUSER modifier '+nonsense'")
    assert str(set_user(rig, b"<unknown")).startswith("ERR Error in ACL SETUSER modifier")
    assert str(set_user(rig, b"on", name=b"a b")) == "ERR Usernames can't contain spaces or null characters"
    assert len(rig.consensus.committed) == before
    assert b"+set" not in rig.engine.acl.users[b"bob"].text()


def test_what_one_node_was_configured_with_does_not_matter_elsewhere() -> None:
    """The default user's password and the channels of new users come from the leader."""
    rig = Rig(requirepass="local", acl_pubsub_default="allchannels")
    rig.engine.serving_changed(True, False)
    client = rig.client()
    assert ask(rig, client, b"AUTH", b"local") == b"OK"
    assert ask(rig, client, b"ACL", b"SETUSER", b"bob", b"on", b"nopass", b"+@all") == b"OK"
    assert rig.engine.acl.users[b"bob"].selectors[0].all_channels
    assert ask(rig, client, b"ACL", b"SETUSER", b"default", b">second") == b"OK"
    for password in (b"local", b"second"):
        assert login(rig, b"default", password) == b"OK"
    rig.engine.settings.set("requirepass", "other")
    assert isinstance(login(rig, b"default", b"other"), Err)
    rig.check_follower()


def test_a_deleted_user_is_gone_on_every_node_and_starts_anew(rig: Rig) -> None:
    set_user(rig, b"on", b"nopass", b"+@all", b"~*")
    bob = rig.client()
    assert ask(rig, bob, b"AUTH", b"bob", b"") == b"OK"
    assert ask(rig, rig.client(), b"ACL", b"DELUSER", b"bob", b"nobody", b"bob") == 1
    rig.pass_ms(10)
    assert bob.closed
    set_user(rig, b"on")
    assert rig.engine.acl.users[b"bob"].text() == b"on sanitize-payload resetchannels -@all"
    assert str(ask(rig, rig.client(), b"ACL", b"DELUSER", b"default")) == "ERR The 'default' user cannot be removed"
    rig.check_follower()


def test_who_deletes_itself_is_answered_first(rig: Rig) -> None:
    set_user(rig, b"on", b"nopass", b"+@all", b"~*")
    bob = rig.client()
    ask(rig, bob, b"AUTH", b"bob", b"")
    bob.send([b"ACL", b"DELUSER", b"bob"])
    rig.settle()
    assert bob.got() == [1]
    rig.pass_ms(10)
    assert bob.closed


def test_in_a_transaction(rig: Rig) -> None:
    client = rig.client()
    replies = rig.ask(client, "MULTI", "ACL SETUSER bob on >pw +@all ~*", "SET k v", "ACL SETUSER bob -set", "EXEC")
    assert replies[-1] == [b"OK", b"OK", b"OK"]
    assert login(rig, b"bob", b"pw") == b"OK"
    assert all(b"pw" not in entry.data for entry in rig.consensus.committed)
    rig.check_follower()


def test_a_unit_that_fails_leaves_users_as_they_were(rig: Rig) -> None:
    accounts = rig.ks.accounts
    assert accounts is not None
    set_user(rig, b"on", b">pw", b"+get", b"~a")
    before = (accounts.canonical(), rig.engine.acl.users[b"bob"].text())
    steps.clear()
    accounts.set_user(accounts.prepared([b"ACL", b"SETUSER", b"bob", b"resetpass", b"+set"]))
    accounts.set_user(accounts.prepared([b"ACL", b"SETUSER", b"eve", b"on"]))
    accounts.delete_users([b"bob"])
    assert b"bob" not in rig.engine.acl.users
    roll_back()
    assert (accounts.canonical(), rig.engine.acl.users[b"bob"].text()) == before
    assert b"eve" not in rig.engine.acl.users


RULES = [
    b"on", b"off", b"nopass", b">one", b">two", b"<one", b"allkeys", b"~a*", b"%R~b*", b"%W~c?", b"%RW~d", b"resetkeys",
    b"&ch*", b"allchannels", b"resetchannels", b"+@all", b"-@all", b"+@read", b"-@dangerous", b"+get", b"-set",
    b"+config|get", b"-config|set", b"+select|1", b"(~x* +set)", b"(%R~y +@read -get &z)", b"clearselectors", b"reset",
    b"skip-sanitize-payload", b"resetpass",
]  # fmt: skip


def test_rules_of_a_user_make_the_same_user(rig: Rig) -> None:
    index = rig.engine.acl.index
    for first, second, third in itertools.product(RULES, RULES, RULES[::3]):
        user = User(b"u", index, all_channels=False)
        try:
            for rule in (first, second, third):
                user.apply(rule, all_channels=False)
        except RuleError:
            continue
        again = User(b"u", index, all_channels=False)
        for rule in user.rules():
            again.apply(rule, all_channels=False)
        assert again.text() == user.text()


def test_file_is_loaded_by_the_leader_for_everybody_and_saved(rig: Rig) -> None:
    disk = SimDisk()
    disk.mkdir("/etc")
    files = DiskConfigFile(disk)
    settings = rig.engine.settings
    settings.files = files
    client = rig.client()
    assert str(ask(rig, client, b"ACL", b"LOAD")).startswith("ERR This instance is not configured to use an ACL file.")
    settings.load("aclfile", "/etc/users.acl")
    assert "ERR Error loading ACLs" in str(ask(rig, client, b"ACL", b"LOAD"))
    set_user(rig, b"on", b">pw", b"~a", b"+get", b"(~b +set)")
    assert ask(rig, client, b"ACL", b"SAVE") == b"OK"
    saved = files.read("/etc/users.acl")
    assert saved.splitlines()[0].startswith("user bob on sanitize-payload #")
    set_user(rig, b"on", b"+@all", name=b"eve")
    set_user(rig, b"off")
    assert ask(rig, client, b"ACL", b"LOAD") == b"OK"
    assert sorted(rig.engine.acl.users) == [b"bob", b"default"]
    assert login(rig, b"bob", b"pw") == b"OK"
    rig.check_follower()
    files.replace("/etc/users.acl", "user a on\nuser a off\nnobody\nuser b +nope\nuser c (+get\n")
    reply = str(ask(rig, client, b"ACL", b"LOAD"))
    for part in (
        "WARNING: Duplicate user 'a' found on line 2. ", "/etc/users.acl:3 should start with user keyword",
        "/etc/users.acl:4: ", "/etc/users.acl:5: Unmatched parenthesis in selector definition.",
        "no change to the previously active ACL rules was performed",
    ):  # fmt: skip
        assert part in reply
    assert sorted(rig.engine.acl.users) == [b"bob", b"default"]
