"""The config holder of lease mode: who is primary and who is in sync, kept by compare-and-swap; see ADR 0025.

Rule: the names used below are public, each in its module. What a data node needs is one HolderPort, which is in
raft.primary_backup.holder; which of the two it has, the rest of the node does not know:

    HolderClient  talks to the members of an embedded holder, a small Raft group that runs the register. One of them
                  may live in this very process (HolderMember); ``durakv arbiter`` is nothing but a member.
    EtcdHolder    keeps the same configurations in an etcd 3 that is there already; no member, no port of its own.

How to put an embedded holder together, in the composition root of a data node:

    members = parse_members(["1=10.0.0.1:27000", "2=10.0.0.2:27000", "9=10.0.0.3:27000"])      # holder.address
    found_member(disk, directory, cluster_id, member_id, tuple(members))  # once, when the cluster is created
    member = HolderMember(clock, rng, disk, network, directory, cluster_id, member_id, members, on_event, on_fatal)
    port = member.open(host, port)   # recovers (blocks, as opening a store does), listens, begins to tick by the clock
    client = HolderClient(clock, network, cluster_id, node_id, members, on_answer, member=member)
    client.submit(call)              # for every call of Ready.calls
    ...
    client.close(); member.close(done)

* A member's id is its own: use the data node's id for one that lives in a data node, and a fresh id for an arbiter.
* ``directory`` is the member's own, e.g. ``<dir>/holder``; it holds one small file. A member that lost it must not be
  founded again under the same id. found_member() refuses to touch a directory that has one; member_exists() asks.
* ``disk`` may be the node's own: one append and one sync per change. Better is one whose lane is the holder's alone.
* Each member needs one port (default 20000 above the client port), for the other members and for all data nodes. It
  shares no connection with replication.
* There is no poll or turn: members and clients run on clock.call_later() and the network's callbacks.
* ``on_answer(HolderAnswer)`` is never called from within submit(), and at most once per call; after it, pump the core.
* ``on_event(text)`` takes lines for the log, ``on_fatal(OSError)`` a failed disk, after which the process must end.
* ``timeout_ms`` of a client must be below Settings.holder_timeout_ns, so that "was not sent" arrives as such.
* health() of either client gives a HolderHealth, rows() of that the lines for INFO.

An EtcdHolder is put together so; it needs the extra ``durakv[etcd]`` and raises ValueError without it:

    holder = EtcdHolder(clock, network, EtcdOptions(["10.0.0.1:2379"], prefix="/durakv/"), cluster_id, on_answer)
"""
