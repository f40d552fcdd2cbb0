"""Users are the cluster's: the proxy passes credentials on and keeps none of its own."""

from __future__ import annotations

import pytest
import redis

from tests.proxy.cluster import ProxyProcess, Raw, RedisCluster, available

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    if not available():
        pytest.skip("redis-server is not on the PATH")
    base = tmp_path_factory.mktemp("secured")
    with RedisCluster(base) as made:
        for node in made.nodes:
            admin = node.client()
            admin.config_set("masterauth", "secret")
            rights = ("+@read", "+@connection", "+acl|whoami")
            admin.execute_command("ACL", "SETUSER", "reader", "on", ">rpass", "~*", *rights)
            admin.execute_command("ACL", "SETUSER", "setter", "on", ">spass", "~*", "+@all", "-multi")
            admin.config_set("requirepass", "secret")
        password = base / "password"
        password.write_text("secret\n")
        with ProxyProcess([node.port for node in made.masters], "--password-file", str(password)) as proxy:
            yield made, proxy


def test_nobody_without_a_password(secured):
    client = secured[1].client(protocol=2)
    requests = "GET a|PING|MGET a b|DBSIZE|BLPOP a 1|SUBSCRIBE a|EVAL return 0|WATCH a|SCAN 0|SELECT 0"
    for line in requests.split("|"):
        with pytest.raises(redis.AuthenticationError, match="Authentication required"):
            client.execute_command(*line.split())
    batch = client.pipeline(transaction=True).set("a", "1")
    with pytest.raises(redis.RedisError, match="Authentication required"):
        batch.execute()


def test_wrong_passwords_change_nothing(secured):
    with Raw(secured[1].port) as raw:
        raw.send("AUTH secret", "SET a 1", "AUTH wrong", "AUTH reader wrong", "HELLO 3 AUTH nobody x", "GET a")
        lines = raw.lines(7)
        assert lines[:2] == [b"+OK", b"+OK"] and lines[5:] == [b"$1", b"1"]
        assert all(line.startswith(b"-WRONGPASS") for line in lines[2:5])


@pytest.mark.parametrize("protocol", [2, 3])
def test_each_user_has_its_own_rights(secured, protocol):
    default = secured[1].client(password="secret", protocol=protocol)
    reader = secured[1].client(username="reader", password="rpass", protocol=protocol)
    assert default.set("a", "1") is True
    assert reader.get("a") == b"1"
    for _ in range(3):
        with pytest.raises(redis.exceptions.NoPermissionError):
            reader.set("a", "2")
        assert default.get("a") == b"1"
    assert reader.acl_whoami() in ("reader", b"reader")
    assert default.acl_whoami() in ("default", b"default")
    reader.execute_command("RESET")
    with pytest.raises(redis.RedisError):
        reader.execute_command("GET", "a")


def test_a_transaction_that_may_not_begin_runs_nothing(secured):
    """Its commands alone would be allowed."""
    setter = secured[1].client(username="setter", password="spass", protocol=2)
    assert setter.set("{t}a", "old") is True
    with pytest.raises(redis.RedisError, match="multi"):
        setter.pipeline(transaction=True).set("{t}a", "new").set("{t}b", "new").execute()
    assert setter.mget("{t}a", "{t}b") == [b"old", None]


def test_a_changed_password_counts_at_once(secured):
    cluster, proxy = secured
    admins = [node.client(password="secret") for node in cluster.nodes]
    for admin in admins:
        admin.execute_command("ACL", "SETUSER", "late", "on", ">one", "~*", "+@all")
    first = proxy.client(username="late", password="one", protocol=2)
    assert first.set("a", "1") is True
    for admin in admins:
        admin.execute_command("ACL", "SETUSER", "late", "resetpass", ">two")
    with pytest.raises(redis.AuthenticationError):
        proxy.client(username="late", password="one", protocol=2).get("a")
    assert proxy.client(username="late", password="two", protocol=2).get("a") == b"1"


def test_without_its_own_login_the_proxy_says_what_to_give_it(secured):
    with ProxyProcess([secured[0].masters[0].port], "--retry-timeout-ms", "100") as proxy:
        assert "give the proxy --user and --password-file" in proxy.log_text()
        with pytest.raises(redis.ResponseError, match="no node is known to serve this slot"):
            proxy.client(password="secret", protocol=2).get("a")
