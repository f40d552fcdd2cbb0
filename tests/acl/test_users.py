"""Users, passwords, rules and refusals."""

from __future__ import annotations

import hashlib

import pytest

from durakv.acl.denials import DenialLog
from durakv.acl.users import AUTH_NOT_NEEDED, Denied
from durakv.commands.acl import note_denied
from durakv.resp.errors import WRONGPASS, CommandError
from tests.commands.fake_services import FakeNode, error, row_of, run, words


@pytest.fixture
def node():
    return FakeNode()


def denied(node, user, command) -> str:
    argv = words(command)
    with pytest.raises(CommandError) as e:
        user.check(row_of(node, argv), argv)
    return e.value.text


def allowed(node, user, command) -> bool:
    argv = words(command)
    try:
        user.check(row_of(node, argv), argv)
    except CommandError:
        return False
    return True


def user(node, *rules):
    return node.acl.set_user(b"u", [b"reset", *(rule.encode() for rule in rules)])


def test_default_user_allows_all_until_a_password_is_set(node):
    assert node.acl.initial_user() is node.acl.default
    assert node.acl.default.allows_all
    assert node.acl.internal_user().allows_all
    node.settings.set("requirepass", "secret")
    assert node.acl.initial_user() is None
    assert node.acl.authenticate_default(b"secret") is node.acl.default
    with pytest.raises(CommandError, match=WRONGPASS):
        node.acl.authenticate_default(b"wrong")
    node.settings.set("requirepass", "")
    assert node.acl.initial_user() is node.acl.default
    with pytest.raises(CommandError) as e:
        node.acl.authenticate_default(b"x")
    assert e.value.text == AUTH_NOT_NEEDED


def test_login_needs_an_enabled_user_and_the_right_password(node):
    user(node, "on", ">one", ">two")
    assert node.acl.authenticate(b"u", b"one").name == b"u"
    assert node.acl.authenticate(b"u", b"two").name == b"u"
    for name, password in ((b"u", b"three"), (b"nobody", b"one"), (b"(peer)", b"")):
        with pytest.raises(CommandError, match=WRONGPASS):
            node.acl.authenticate(name, password)
    node.acl.set_user(b"u", [b"<one"])
    with pytest.raises(CommandError, match=WRONGPASS):
        node.acl.authenticate(b"u", b"one")
    node.acl.set_user(b"u", [b"off"])
    with pytest.raises(CommandError, match=WRONGPASS):
        node.acl.authenticate(b"u", b"two")


def test_passwords_are_kept_as_digests_only(node):
    u = user(node, "on", ">pw")
    assert list(u.passwords) == [hashlib.sha256(b"pw").hexdigest().encode()]
    assert b"pw" not in u.text().split()


def test_refusals_have_valkeys_texts(node):
    u = user(node, "on", "+get", "+publish", "+psubscribe", "~a*", "&c*")
    assert denied(node, u, "set a 1") == "NOPERM User u has no permissions to run the 'set' command"
    assert denied(node, u, "config get x") == "NOPERM User u has no permissions to run the 'config|get' command"
    assert denied(node, u, "get b") == "NOPERM No permissions to access a key"
    assert denied(node, u, "publish d m") == "NOPERM No permissions to access a channel"
    assert denied(node, u, "psubscribe ch*") == "NOPERM No permissions to access a channel"
    assert allowed(node, u, "psubscribe c*")
    assert allowed(node, u, "auth x y")


def test_read_and_write_patterns(node):
    u = user(node, "on", "+@all", "%R~r*", "%W~w*", "%RW~b*")
    assert allowed(node, u, "get r1")
    assert not allowed(node, u, "get w1")
    assert allowed(node, u, "set w1 x")
    assert not allowed(node, u, "set r1 x")
    assert not allowed(node, u, "set w1 x GET")
    assert allowed(node, u, "set b1 x GET")
    assert allowed(node, u, "lmpoplike 2 r1 r2 LEFT")
    assert not allowed(node, u, "lmpoplike 2 r1 x LEFT")


def test_selectors_grant_as_a_whole(node):
    u = user(node, "on", "+get", "~a", "(+set ~b)")
    assert allowed(node, u, "get a")
    assert allowed(node, u, "set b 1")
    assert not allowed(node, u, "set a 1")
    assert denied(node, u, "get b") == "NOPERM No permissions to access a key"
    node.acl.set_user(b"u", [b"clearselectors"])
    assert not allowed(node, u, "set b 1")


def test_a_refused_rule_changes_nothing(node):
    u = user(node, "on", "+get", "~a")
    before = u.text()
    with pytest.raises(CommandError, match="Error in ACL SETUSER modifier '\\+nope'"):
        node.acl.set_user(b"u", [b"+set", b"~b", b"+nope"])
    assert u.text() == before
    with pytest.raises(CommandError):
        node.acl.set_user(b"new", [b"+nope"])
    assert b"new" not in node.acl.users


def test_taking_one_command_away_ends_allows_all(node):
    u = user(node, "on", "+@all", "~*", "&*")
    assert u.allows_all
    node.acl.set_user(b"u", [b"-get"])
    assert not u.allows_all
    assert not allowed(node, u, "get a")
    assert allowed(node, u, "set a 1")
    node.acl.set_user(b"u", [b"+@all"])
    assert u.allows_all


def test_sessions_follow_changes_of_their_user(node):
    s = node.client()
    run(node, s, "ACL SETUSER bob on >pw +@all ~*")
    assert run(node, s, "AUTH bob pw").text == b"OK"
    assert run(node, s, "ACL WHOAMI") == b"bob"
    run(node, s, "ACL SETUSER bob -get")
    assert "no permissions to run the 'get'" in error(node, s, "GET x")


def test_text_round_trips(node):
    u = user(node, "on", ">pw", "+@read", "-get", "+config|get", "%R~a", "&x", "(+set ~b)")
    rules = u.text().replace(b"(", b" (").split()
    other = node.acl.set_user(b"copy", [b"reset", *rules])
    assert other.text() == u.text()


def test_denials_group_for_a_minute_and_are_bounded():
    log = DenialLog(2)
    log.note("command", "toplevel", b"get", b"u", b"id=1", 1000)
    log.note("key", "toplevel", b"k", b"u", b"id=1", 2000)
    log.note("command", "toplevel", b"get", b"u", b"id=2", 61_000)
    assert [(e.reason, e.count, e.client) for e in log.entries] == [("command", 2, b"id=2"), ("key", 1, b"id=1")]
    log.note("command", "toplevel", b"get", b"u", b"id=2", 121_001)
    assert [(e.reason, e.count) for e in log.entries] == [("command", 1), ("command", 2)]
    log.clear()
    assert log.entries == []


def test_deleting_a_user_closes_its_connections(node):
    admin, victim, other = node.client(), node.client(), node.client()
    run(node, admin, "ACL SETUSER bob on nopass +@all")
    run(node, victim, "AUTH bob x")
    assert run(node, admin, "ACL DELUSER bob nobody") == 1
    assert victim.sink.closed
    assert not other.sink.killed


def test_revoking_a_channel_closes_its_listeners(node):
    admin, listener = node.client(), node.client()
    run(node, admin, "ACL SETUSER bob on nopass +@all &news")
    run(node, listener, "AUTH bob x")
    run(node, listener, "SUBSCRIBE news")
    run(node, admin, "ACL SETUSER bob &more")
    assert not listener.sink.closed
    run(node, admin, "ACL SETUSER bob resetchannels &more")
    assert listener.sink.closed


def test_failed_logins_are_logged(node):
    s = node.client()
    error(node, s, "AUTH bob wrong")
    entry = run(node, s, "ACL LOG")[0].flat
    facts = dict(zip(entry[::2], entry[1::2], strict=True))
    assert (facts[b"reason"], facts[b"object"], facts[b"username"]) == (b"auth", b"AUTH", b"bob")
    assert facts[b"client-info"].startswith(b"id=1 addr=127.0.0.1:50001 ")
    assert node.stats.acl_denied_auth == 1


def test_refusals_are_logged_and_counted(node):
    s = node.client()
    run(node, s, "ACL SETUSER bob on nopass +@all -set ~a")
    run(node, s, "AUTH bob x")
    for command in ("SET a 1", "GET b", "PUBLISH c m"):
        with pytest.raises(Denied) as e:
            s.user.check(row_of(node, words(command)), words(command))
        note_denied(node, s, e.value)
    entries = node.acl.denials.entries
    assert [(e.reason, e.context, e.refused, e.username) for e in entries] == [
        ("channel", "toplevel", b"c", b"bob"), ("key", "toplevel", b"b", b"bob"),
        ("command", "toplevel", b"set", b"bob"),
    ]  # fmt: skip
    stats = node.stats
    assert (stats.acl_denied_command, stats.acl_denied_key, stats.acl_denied_channel) == (1, 1, 1)


def test_genpass_has_the_asked_length(node):
    s = node.client()
    assert len(run(node, s, "ACL GENPASS")) == 64
    assert len(run(node, s, "ACL GENPASS 5")) == 2
