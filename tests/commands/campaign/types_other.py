"""Templates of streams, bitmaps, HyperLogLogs, places, keys of any type, transactions, scripts and channels."""

from __future__ import annotations

STREAMS = """
18* XADD key [NOMKSTREAM] [MAXLEN count|MAXLEN ~ count|MINID id|MINID ~ id|MAXLEN = count] newid (member value)+
3* XADD key newid f value ; XADD same (50-*|41-0|30-*) g value
1* XADD key [MAXLEN ~ count LIMIT count|MINID ~ id LIMIT count] newid f length
1* XADD key [NOMKSTREAM|MAXLEN count] id (member value)+
4* XDEL key id+
3* XTRIM key (MAXLEN|MAXLEN ~|MAXLEN =) count [LIMIT count]
3* XTRIM key (MINID|MINID ~|MINID =) id [LIMIT count]
2* XSETID key id [ENTRIESADDED count] [MAXDELETEDID id]
1* XSETID key (50-0|60-1) [ENTRIESADDED (100|200)] [MAXDELETEDID id]
2* XLEN key
6* (XRANGE|XREVRANGE) key sbound sbound [COUNT count]
2* XRANGE key - + [COUNT count]
4* XREAD [COUNT count] STREAMS key (0|$|id|+)
3* XREAD [COUNT count] STREAMS key other id id
10* XREADGROUP GROUP group consumer [COUNT count] [NOACK] STREAMS key (>|>|>|id|$)
3* XREADGROUP GROUP group consumer [COUNT count] [NOACK] STREAMS key other > >
5* XGROUP CREATE key group (0|$|id) [MKSTREAM] [ENTRIESREAD count]
2* XGROUP SETID key group (0|$|id) [ENTRIESREAD count]
1* XGROUP DESTROY key group
2* XGROUP CREATECONSUMER key group consumer
2* XGROUP DELCONSUMER key group consumer
5* XACK key group id+
2* XPENDING key group
5* XPENDING key group [IDLE (0|10000000|x)] sbound sbound count [consumer]
6* XCLAIM key group consumer (0|0|10000000|-1|x) id+ [TIME (1700000000000|x)] [RETRYCOUNT count] [FORCE] [JUSTID] \
[LASTID id]
6* XAUTOCLAIM key group consumer (0|0|10000000|x) sbound [COUNT count] [JUSTID]
3* XINFO STREAM key
1* XINFO STREAM key FULL [COUNT count]
3* XINFO GROUPS key
2* XINFO CONSUMERS key group
1* XREAD BLOCK 1 STREAMS key $
1* XREADGROUP GROUP group consumer BLOCK 1 STREAMS key >
1* XADD key newid f value ; XREAD BLOCK 1 STREAMS same 0
1* DEL key
1* COPY key other REPLACE
1* RENAME key other
1* TYPE key
"""
BITMAPS = """
8* SETBIT key bitoffset bit
5* GETBIT key bitoffset
6* BITCOUNT key [offset offset|offset offset BYTE|offset offset BIT|offset]
8* BITPOS key bit [offset|offset offset|offset offset BYTE|offset offset BIT]
6* BITOP (AND|OR|XOR|NOT|x) newkey key+
2* BITOP NOT newkey key
10* BITFIELD key (GET type fieldoffset|SET type fieldoffset int|INCRBY type fieldoffset int|OVERFLOW \
(WRAP|SAT|FAIL|x))+
4* BITFIELD_RO key (GET type fieldoffset)+
4* SET key value
2* APPEND key value
2* SETRANGE key offset value
2* GET key
1* STRLEN key
1* GETRANGE key offset offset
1* DEL key
1* OBJECT ENCODING key
"""
HYPERLOGLOG = """
8* PFADD key member+
2* PFADD key
3* PFADD key fill{60}
1* PFADD key wide{400}
6* PFCOUNT key
4* PFCOUNT key+
5* PFMERGE newkey key+
1* PFMERGE newkey
1* SET key (HYLL|x) ; PFADD same member
1* DEL bad ; PFADD bad member ; SETRANGE bad (0|4|5|16|20) text ; PFCOUNT bad ; PFADD bad member ; DEL bad
1* DEL bad ; PFADD bad member ; APPEND bad text ; PFCOUNT bad ; PFMERGE newkey bad other ; DEL bad
2* GET key
1* STRLEN key
1* TYPE key
1* OBJECT ENCODING key
1* DEL key
1* COPY key other REPLACE
1* PFDEBUG (ENCODING|GETREG|DECODE|TODENSE|x) key
"""
GEO = """
8* GEOADD key [NX|XX] [CH] (lon lat place)+
1* GEOADD key (lon lat fill){30}
4* GEOPOS key place+
2* GEOHASH key place+
5* GEODIST key place place [unit]
6* GEOSEARCH key (FROMMEMBER place|FROMLONLAT lon lat) (BYRADIUS radius unit|BYBOX radius radius unit) [ASC|DESC] \
[COUNT count] [WITHCOORD] [WITHDIST] [WITHHASH]
4* GEOSEARCH key FROMLONLAT 14 38 BYRADIUS 2000 km (ASC|DESC) [COUNT count] [WITHCOORD] [WITHDIST] [WITHHASH]
3* GEOSEARCHSTORE newkey key (FROMMEMBER place|FROMLONLAT lon lat) (BYRADIUS radius unit|BYBOX radius radius unit) \
[ASC|DESC] [STOREDIST]
2* GEOSEARCHSTORE newkey key (FROMMEMBER place|FROMLONLAT lon lat) BYRADIUS radius unit (ASC|DESC) COUNT count \
[STOREDIST]
4* GEORADIUS key lon lat radius unit [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count] [ASC|DESC] [STORE \
newkey|STOREDIST newkey]
2* GEORADIUS_RO key lon lat radius unit [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count] [ASC|DESC]
4* GEORADIUSBYMEMBER key place radius unit [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count] [ASC|DESC] [STORE \
newkey|STOREDIST newkey]
2* GEORADIUSBYMEMBER_RO key place radius unit [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count] [ASC|DESC]
3* ZRANGE key 0 -1 WITHSCORES
1* ZADD key score place
1* ZSCORE key place
2* ZREM key place
1* ZCARD key
1* DEL key
"""
KEYS = """
5* SET key value
1* SET key value [EXAT far|PXAT farms] [NX|XX]
2* RPUSH key member+
2* SADD key member+
1* SADD key fillnum+
2* HSET key (member value)+
2* ZADD zkey (score member)+
1* (RENAME|RENAMENX) zkey zother
1* COPY zkey zother [DB (1|2)] [REPLACE]
1* (DEL|EXISTS|TYPE|PERSIST) zkey
1* (EXPIREAT|PEXPIREAT) zkey farms [when]
1* MOVE zkey (1|2)
1* SORT z1 [ALPHA] [LIMIT anyrank anyrank] [DESC] [STORE newkey] ; DEL z1
1* SORT_RO z2 [ALPHA] [LIMIT anyrank anyrank] [DESC] ; DEL z2
1* XADD key 1-1 f v ; DEL same
1* XADD key newid f v
1* PFADD key member
1* GEOADD zkey lon lat member
1* SETBIT key bitoffset bit
3* (DEL|UNLINK) key+
3* (EXISTS|TOUCH) key+
3* (TTL|PTTL|EXPIRETIME|PEXPIRETIME|TYPE|PERSIST) key
4* EXPIREAT key far [when] [when]
4* PEXPIREAT key farms [when] [when]
3* (EXPIRE|PEXPIRE) key badrel [when]
2* EXPIRE key (20000000|30000000) [NX|XX]
2* PEXPIRE key (20000000000|30000000000) [NX|XX]
4* (RENAME|RENAMENX) key other
5* COPY key other [DB (0|1|2|16|x|-1)] [REPLACE]
3* MOVE key (0|1|2|16|x|-1)
2* SWAPDB (0|1|2) (0|1|2|x|99|-1)
3* SELECT (0|1|2|16|x)
2* DBSIZE
2* KEYS pattern
1* SCAN 0 COUNT 10000 [MATCH pattern] [TYPE (string|list|set|zset|hash|stream|x)]
1* SCAN cursor [MATCH pattern] [COUNT all] [TYPE string]
1* RANDOMKEY
1* (FLUSHDB|FLUSHALL) [ASYNC|SYNC|x]
3* OBJECT ENCODING key
1* OBJECT (REFCOUNT|FREQ|IDLETIME|x) (none|key)
4* SORT key [LIMIT anyrank anyrank] [GET (#|w_*|h_*->f|k*|*->f|none_*)] [GET #] [ASC|DESC] [STORE newkey]
3* SORT key [LIMIT anyrank anyrank] [ASC|DESC] ALPHA [GET #] [STORE newkey]
3* SORT key BY (w_*|h_*->f|nosort|none_*) [LIMIT anyrank anyrank] [GET (#|w_*|h_*->f)] [ASC|DESC]
2* SORT_RO key [BY (w_*|h_*->f|nosort)] [LIMIT anyrank anyrank] [GET (#|w_*)] [ASC|DESC]
1* RPUSH key int+ ; SORT same [BY w_*|BY h_*->f] [GET #|GET w_*] [DESC] [STORE newkey]
1* SET (w_1|w_2|w_a|w_m1|w_10) value
1* HSET (h_1|h_2|h_a|h_m1|h_10) f value
1* DEL none ; MEMORY USAGE none
1* DEL none ; DUMP none
1* RESTORE key 0 badpayload
1* RESTORE key badrel value [REPLACE] [ABSTTL] [IDLETIME int] [FREQ int]
1* COMMAND GETKEYS (GET key|MSET key value other value|SORT key STORE other|EVAL x 2 key other y|XREAD STREAMS key \
other 0 0|ZUNIONSTORE key 2 other key)
1* ECHO text
1* PING [text]
1* OBJECT FREQ key ; DEL same
"""
TRANSACTIONS = """
10* MULTI ; any+ ; EXEC
4* MULTI ; any+ ; any+ ; any+ ; EXEC
2* MULTI ; any+ ; DISCARD
3* WATCH key+ ; MULTI ; any+ ; EXEC
3* WATCH key+ ; any+ ; MULTI ; any+ ; EXEC
2* WATCH key ; @ any+ ; MULTI ; any+ ; EXEC
2* WATCH key+ ; @ any+ ; any ; UNWATCH ; MULTI ; any+ ; EXEC
1* MULTI ; any ; @ any+ ; any ; EXEC
1* WATCH key ; MULTI ; any+ ; @ any+ ; EXEC
1* MULTI ; MULTI ; any ; EXEC
1* MULTI ; WATCH key ; any ; EXEC
1* MULTI ; SET ; any ; EXEC
1* MULTI ; NOSUCH a b ; any ; EXEC
1* MULTI ; any ; UNWATCH ; any ; EXEC
1* MULTI ; SELECT (0|1) ; any ; SELECT 0 ; EXEC
1* MULTI ; EVAL script 1 key value ; any ; EXEC
1* MULTI ; (PING|ECHO text|DBSIZE|FLUSHDB|SWAPDB 0 1) ; any ; EXEC
1* MULTI ; BLPOP key 0 ; BRPOP key other 0 ; BZPOPMIN key 0 ; BLMOVE key other LEFT RIGHT 0 ; XREAD BLOCK 0 STREAMS \
key $ ; EXEC
1* WATCH key ; EXPIREAT same far ; MULTI ; any ; EXEC
1* WATCH key ; DEL same ; SET same value ; MULTI ; any ; EXEC
1* WATCH key ; (FLUSHALL|FLUSHDB|SWAPDB 0 1) ; MULTI ; any ; EXEC
1* EXEC
1* DISCARD
1* UNWATCH
1* EXEC x
2* MULTI [x]
1* DISCARD
6* any+
"""
CHANNELS = """
4* SUBSCRIBE channel+
4* PSUBSCRIBE cpattern+
2* SSUBSCRIBE channel+
3* UNSUBSCRIBE [channel+]
3* PUNSUBSCRIBE [cpattern+]
2* SUNSUBSCRIBE [channel+]
6* PUBLISH channel text
2* SPUBLISH channel text
1* PUBSUB CHANNELS [cpattern]
1* PUBSUB NUMSUB channel
1* PUBSUB NUMPAT
1* PUBSUB SHARDCHANNELS [cpattern]
1* PUBSUB SHARDNUMSUB [channel]
1* PING [text]
1* SET key value
1* GET key
3* @ PUBLISH channel text
1* @ SPUBLISH channel text
1* @ PUBSUB NUMSUB channel channel
1* @ PUBSUB NUMPAT
1* @ PUBSUB CHANNELS cpattern
1* MULTI ; PUBLISH channel text ; SET key value ; EXEC
"""
