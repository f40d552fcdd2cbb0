"""Every data type and every kind of routing, through an ordinary client."""

from __future__ import annotations

import random
import threading

import pytest
import redis

pytestmark = pytest.mark.live


def test_strings(client):
    assert client.set("a", "1") is True
    assert client.incr("a") == 2
    assert client.append("a", "x") == 2
    assert client.getrange("a", 0, -1) == b"2x"
    assert client.set("a", "y", nx=True) is None
    assert client.getdel("a") == b"2x"
    assert client.get("a") is None
    big = bytes(range(256)) * 20_000
    assert client.set("big", big) is True
    assert client.get("big") == big


def test_collections(client):
    assert client.rpush("l", "a", "b", "c") == 3
    assert client.lrange("l", 0, -1) == [b"a", b"b", b"c"]
    assert client.hset("h", mapping={"f": "1", "g": "2"}) == 2
    assert client.hgetall("h") == {b"f": b"1", b"g": b"2"}
    assert client.sadd("s", "a", "b") == 2
    assert client.smembers("s") == {b"a", b"b"}
    assert client.zadd("z", {"a": 1.5, "b": 2}) == 2
    assert client.zrange("z", 0, -1, withscores=True) == [(b"a", 1.5), (b"b", 2.0)]
    assert client.xadd("x", {"f": "v"}, id="1-1") == b"1-1"
    assert client.xrange("x") == [(b"1-1", {b"f": b"v"})]
    assert client.xread({"x": "0"}) == [[b"x", [(b"1-1", {b"f": b"v"})]]]
    assert client.pfadd("p", "a", "b") == 1
    assert client.pfcount("p") == 2
    assert client.geoadd("g", (13.361389, 38.115556, "Palermo")) == 1
    assert client.setbit("bits", 7, 1) == 0
    assert client.bitcount("bits") == 1


def test_resp3_shapes_arrive_as_they_are(client3):
    client3.hset("h", mapping={"f": "1"})
    assert client3.hgetall("h") == {b"f": b"1"}
    client3.zadd("z", {"a": 1.5})
    assert client3.zscore("z", "a") == 1.5
    client3.sadd("s", "m")
    assert client3.smembers("s") == {b"m"}
    assert client3.execute_command("CLIENT", "TRACKINGINFO")


def test_many_keys_of_many_slots(client):
    values = {f"k{i}": str(i).encode() for i in range(300)}
    assert client.mset(values) is True
    names = [*values, "missing", "k0"]
    assert client.mget(names) == [*values.values(), None, b"0"]
    assert client.exists(*names) == 301
    assert client.touch(*names) == 301
    assert client.unlink("k0", "k1", "k2", "missing") == 3
    assert client.delete(*names) == 297
    assert client.dbsize() == 0


def test_mset_with_a_missing_value_is_refused_whole(client):
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command("MSET", "a", "1", "b")
    assert client.dbsize() == 0


def test_what_cannot_be_split_is_refused(client):
    client.set("a", "1")
    for line in ("MSETNX a 1 b 2", "RENAME a b", "SINTER a b", "LMOVE a b LEFT LEFT", "BLPOP a b 1", "PFCOUNT a b",
                 "EVAL return 2 a b"):  # fmt: skip
        with pytest.raises(redis.ResponseError, match="same slot"):
            client.execute_command(*line.split())
    assert client.get("a") == b"1"


def test_wrong_type_in_one_part_of_a_split(client):
    client.rpush("l", "x")
    client.set("s", "v")
    assert client.mget("l", "s") == [None, b"v"]


def test_all_keys_of_all_groups(client):
    names = {f"key:{i}".encode() for i in range(500)}
    client.mset(dict.fromkeys(names, "v"))
    assert client.dbsize() == 500
    assert set(client.keys("key:*")) == names
    assert client.randomkey() in names
    seen = list(client.scan_iter(count=37))
    assert set(seen) == names
    assert client.flushall() is True
    assert client.dbsize() == 0
    assert client.randomkey() is None
    assert list(client.scan_iter()) == []


def test_a_random_key_is_found_in_whichever_group_has_one(client):
    client.set("lonely", "v")
    assert {client.randomkey() for _ in range(20)} == {b"lonely"}


def test_scan_cursors_go_on_at_another_proxy(client, cluster):
    from tests.proxy.cluster import ProxyProcess

    names = {f"key:{i}".encode() for i in range(300)}
    client.mset(dict.fromkeys(names, "v"))
    with ProxyProcess([cluster.masters[1].port]) as second:
        clients = [client, second.client()]
        cursor, seen, turn = 0, set(), 0
        while True:
            cursor, keys = clients[turn % 2].scan(cursor, count=11)
            seen.update(keys)
            turn += 1
            if cursor == 0:
                break
    assert seen == names
    assert turn > 3


def test_scan_refuses_what_is_no_cursor(client):
    with pytest.raises(redis.ResponseError, match="invalid cursor"):
        client.execute_command("SCAN", "x")
    with pytest.raises(redis.ResponseError, match="invalid cursor"):
        client.execute_command("SCAN", "99999999999999999999999")


def test_scripts_and_functions_reach_every_group(client):
    sha = client.script_load("return redis.call('get', KEYS[1])")
    assert client.script_exists(sha, "f" * 40) == [True, False]
    for i in range(30):
        client.set(f"k{i}", i)
        assert client.evalsha(sha, 1, f"k{i}") == str(i).encode()
    assert client.eval("return 7", 0) == 7
    code = "#!lua name=mylib\nredis.register_function('answer', function(keys) return redis.call('get', keys[1]) end)"
    assert client.function_load(code, replace=True) == b"mylib"
    assert [client.fcall("answer", 1, f"k{i}") for i in range(30)] == [str(i).encode() for i in range(30)]
    client.function_delete("mylib")
    assert client.function_list() == []
    client.script_flush()
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha(sha, 1, "k0")


def test_pipeline_of_mixed_slots_keeps_its_order(client):
    for seed in range(3):
        dice = random.Random(seed)
        expected, batch = [], client.pipeline(transaction=False)
        state: dict[str, int] = {}
        for i in range(1000):
            key = f"k{dice.randrange(200)}"
            what = dice.randrange(6)
            if what < 2:
                batch.set(key, i)
                state[key] = i
                expected.append(True)
            elif what < 4:
                batch.get(key)
                expected.append(str(state[key]).encode() if key in state else None)
            elif what == 4:
                other = f"k{dice.randrange(200)}"
                batch.mget(key, other)
                expected.append([str(state[k]).encode() if k in state else None for k in (key, other)])
            else:
                batch.echo(str(i))
                expected.append(str(i).encode())
        assert batch.execute() == expected
        client.flushall()


def test_an_error_in_a_pipeline_is_the_right_ones(client):
    batch = client.pipeline(transaction=False)
    batch.set("a", "x").incr("a").get("a").execute_command("NOSUCH", "y").execute_command("GET")
    batch.execute_command("SINTER", "a", "b").get("a")
    replies = batch.execute(raise_on_error=False)
    assert [type(r) for r in replies] == [bool, redis.ResponseError, bytes, redis.ResponseError, redis.ResponseError,
                                          redis.exceptions.ClusterCrossSlotError, bytes]  # fmt: skip
    assert "unknown command" in str(replies[3])


def test_many_clients_share_few_connections(proxy, client):
    clients = [proxy.client() for _ in range(60)]

    def work(c, n):
        for i in range(30):
            assert c.set(f"c{n}:{i}", f"{n}.{i}") is True
            assert c.get(f"c{n}:{i}") == f"{n}.{i}".encode()

    threads = [threading.Thread(target=work, args=(c, n)) for n, c in enumerate(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    facts = client.info("proxy")
    assert facts["proxy_clients"] > 60
    assert client.dbsize() == 1800
    # Two shared ones per node for this identity, and those of other tests' identities.
    assert facts["proxy_upstream_connections"] < 40
    for c in clients:
        c.close()


def test_local_answers(client):
    assert client.ping() is True
    assert client.echo("x") == b"x"
    client.client_setname("me")
    assert client.client_getname() in ("me", b"me")
    assert client.client_id() > 0
    assert any(row["name"] == "me" for row in client.client_list())
    info = client.info()
    assert "redis_version" in info
    assert info["proxy_groups"] == 3
    assert client.execute_command("CLUSTER", "KEYSLOT", "foo") == 12182
    client.set("foo", "1")
    assert client.execute_command("CLUSTER", "COUNTKEYSINSLOT", 12182) == 1
    assert client.execute_command("CLUSTER", "GETKEYSINSLOT", 12182, 5) == [b"foo"]
    with pytest.raises(redis.ResponseError, match="cluster support disabled"):
        client.execute_command("CLUSTER", "SLOTS")


def test_refusals_say_what_to_do(client):
    for line in ("MONITOR", "CONFIG SET maxmemory 1", "SHUTDOWN", "DEBUG SLEEP 0", "SWAPDB 0 1", "CLIENT KILL ID 1",
                 "ASKING", "SYNC"):  # fmt: skip
        with pytest.raises(redis.ResponseError, match="is not done by the proxy: it "):
            client.execute_command(*line.split())
    assert client.ping() is True
