"""Templates of strings, hashes, lists, sets and sorted sets."""

from __future__ import annotations

STRINGS = """
6* SET key value
6* SET key value [NX|XX] [GET] [EXAT far|PXAT farms|KEEPTTL|EX badrel|PX badrel]
2* SET key value [EXAT far|PXAT farms|KEEPTTL] [NX|XX|GET]
4* GET key
2* GETDEL key
3* GETEX key [PERSIST|EXAT far|PXAT farms|EX badrel|PX badrel|KEEPTTL]
3* GETSET key value
2* SETNX key value
4* APPEND key value
2* STRLEN key
4* (INCR|DECR) key
6* (INCRBY|DECRBY) key int
8* INCRBYFLOAT key float
4* SETRANGE key offset value
6* (GETRANGE|SUBSTR) key offset offset
3* MGET key+
2* MSET (key value)+
2* MSETNX (key value)+
1* MSETNX (newkey value)+
1* (SETEX|PSETEX) key badrel value
5* LCS key other [LEN] [IDX] [MINMATCHLEN small] [WITHMATCHLEN]
1* SET key (abcabxxab|ohmytext|m1m2m3) ; LCS same other [LEN] [IDX] [MINMATCHLEN small] [WITHMATCHLEN]
1* DEL key
1* (TYPE|PERSIST|EXISTS|TTL|PTTL|EXPIRETIME|PEXPIRETIME) key
2* OBJECT ENCODING key
1* (EXPIREAT|PEXPIREAT) key farms [when]
1* COPY key other [REPLACE]
1* RENAME key other
"""
HASHES = """
8* HSET key (member value)+
2* HMSET key (member value)+
1* HSET key (fill value){40}
1* HDEL key fill{60}
2* HSETNX key member value
5* HINCRBY key member int
5* HINCRBYFLOAT key member float
4* HDEL key member+
3* HGET key member
3* HMGET key member+
2* HGETALL key
1* (HKEYS|HVALS) key
2* HLEN key
2* HSTRLEN key member
2* HEXISTS key member
2* HRANDFIELD key [count] [WITHVALUES]
1* HRANDFIELD key (-3|-1|3|10000) [WITHVALUES]
3* HSCAN key cursor [MATCH pattern] COUNT all [NOVALUES]
1* HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]
1* DEL key
2* OBJECT ENCODING key
1* (TYPE|EXISTS|PERSIST) key
1* EXPIREAT key far
1* COPY key other [REPLACE]
"""
LISTS = """
6* (LPUSH|RPUSH) key member+
2* (LPUSHX|RPUSHX) key member+
1* RPUSH key fill{60}
1* LPUSH key length length{20}
1* RPUSH key value{30}
1* LPOP key (10|50|100)
4* (LPOP|RPOP) key [count]
4* LINSERT key (BEFORE|AFTER|x) member member
2* LLEN key
4* LINDEX key anyrank
4* LSET key index member
4* LRANGE key anyrank anyrank
2* LRANGE key 0 -1
2* LTRIM key anyrank anyrank
1* LTRIM key (0|1) -1
4* LREM key (0|1|-1|2|-2|x) member
5* LPOS key member [RANK anyrank] [COUNT count] [MAXLEN count]
4* LMOVE key other side side
2* RPOPLPUSH key other
3* LMPOP numkeys key other side [COUNT count]
1* MULTI ; BLPOP key other tiny ; BRPOP other tiny ; BLMOVE key other side side tiny ; \
BRPOPLPUSH key other tiny ; BLMPOP tiny numkeys key other side [COUNT count] ; EXEC
1* RPUSH key member ; BLPOP same tiny
1* RPUSH key member+ ; BRPOP none same tiny
1* RPUSH key member ; BLMOVE same other side side tiny
1* RPUSH key member ; BLMPOP tiny 2 none same side COUNT small
1* RPUSH key member ; BRPOPLPUSH same other tiny
1* DEL key ; BLPOP same tiny
1* DEL key
2* OBJECT ENCODING key
2* SORT key [LIMIT anyrank anyrank] [GET #] [ASC|DESC] ALPHA [STORE newkey]
1* SORT key [LIMIT anyrank anyrank] [ASC|DESC] [STORE newkey]
1* COPY key other [REPLACE]
"""
SETS = """
6* SADD key member+
3* SADD key int+
1* SADD key fill{60}
1* SADD key fillint{200}
1* SADD key fillnum+
1* SREM key fill{60}
1* SREM key fillint{60}
5* SREM key member+
3* SMOVE key other member
1* SPOP key (0|100000|x|-1)
1* SPOP key [small] ; DEL same
3* SISMEMBER key member
3* SMISMEMBER key member+
3* SCARD key
2* SMEMBERS key
2* SRANDMEMBER key [count]
1* SRANDMEMBER key (-3|-1|2|10000)
4* (SINTER|SUNION|SDIFF) key+
4* (SINTERSTORE|SUNIONSTORE|SDIFFSTORE) newkey key+
3* SINTERCARD numkeys key other [LIMIT count]
2* SSCAN key cursor [MATCH pattern] COUNT all
1* SSCAN key cursor [MATCH pattern] [COUNT count]
1* DEL key
3* OBJECT ENCODING key
1* SORT key [LIMIT anyrank anyrank] ALPHA [ASC|DESC] [STORE newkey]
1* COPY key other [REPLACE]
1* EXPIREAT key far
"""
ZSETS = """
6* ZADD key [NX|XX] [GT|LT] [CH] [INCR] (score member)+
6* ZADD key (score member)+
1* ZADD key (score fill){40}
1* ZADD key [NX|XX] [GT|LT] [CH] (score fill){20}
1* ZREM key fill{60}
5* ZINCRBY key score member
4* ZREM key member+
2* ZCARD key
3* ZSCORE key member
2* ZMSCORE key member+
4* (ZRANK|ZREVRANK) key member [WITHSCORE]
3* (ZPOPMIN|ZPOPMAX) key [count]
3* ZMPOP numkeys key other minmax [COUNT count]
6* ZRANGE key anyrank anyrank [REV] [WITHSCORES]
6* ZRANGE key bound bound BYSCORE [REV] [LIMIT anyrank anyrank] [WITHSCORES]
3* ZRANGESTORE newkey key anyrank anyrank [REV]
3* ZRANGESTORE newkey key bound bound BYSCORE [REV] [LIMIT anyrank anyrank]
2* ZREVRANGE key anyrank anyrank [WITHSCORES]
4* (ZRANGEBYSCORE|ZREVRANGEBYSCORE) key bound bound [WITHSCORES] [LIMIT anyrank anyrank]
3* ZCOUNT key bound bound
2* ZREMRANGEBYRANK key anyrank anyrank
2* ZREMRANGEBYSCORE key bound bound
5* (ZUNION|ZINTER) numkeys key other [WEIGHTS score score] [AGGREGATE (SUM|MIN|MAX|x)] [WITHSCORES]
2* ZDIFF numkeys key other [WITHSCORES]
5* (ZUNIONSTORE|ZINTERSTORE) newkey numkeys key other [WEIGHTS score score] [AGGREGATE (SUM|MIN|MAX)]
2* ZDIFFSTORE newkey numkeys key other
2* ZINTERCARD numkeys key other [LIMIT count]
2* ZRANDMEMBER key [count] [WITHSCORES]
1* ZRANDMEMBER key (-3|-1|2|10000) [WITHSCORES]
2* ZSCAN key cursor [MATCH pattern] COUNT all
1* ZSCAN key cursor [MATCH pattern] [COUNT count]
3* ZADD lexkey (0 member)+
1* ZADD lexkey (0 fill){20}
4* ZRANGE lexkey lex lex BYLEX [REV] [LIMIT anyrank anyrank] [WITHSCORES]
3* (ZRANGEBYLEX|ZREVRANGEBYLEX) lexkey lex lex [LIMIT anyrank anyrank]
2* ZLEXCOUNT lexkey lex lex
2* ZREMRANGEBYLEX lexkey lex lex
2* ZRANGESTORE lexkey lexkey lex lex BYLEX [REV] [LIMIT anyrank anyrank]
1* MULTI ; BZPOPMIN key other tiny ; BZPOPMAX other tiny ; BZMPOP tiny numkeys key other minmax [COUNT count] ; EXEC
1* ZADD key score member ; BZPOPMIN none same tiny
1* ZADD key score member ; BZPOPMAX same tiny
1* ZADD key (score member)+ ; BZMPOP tiny 2 none same minmax COUNT small
1* SADD out member+ ; ZUNIONSTORE newkey 2 out key ; DEL out
1* SADD out member+ ; ZINTER 2 out key WITHSCORES ; DEL out
1* DEL key
2* OBJECT ENCODING key
1* SORT key [BY nosort] [LIMIT anyrank anyrank] [ASC|DESC] ALPHA ; DEL same
1* COPY key other [REPLACE]
"""
