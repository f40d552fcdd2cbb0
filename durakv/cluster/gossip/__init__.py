"""Who serves which slots, as news between nodes: hints that make redirects right, never what makes writes safe.

Each group's own log decides its slots and members; whoever follows a stale hint is told better by the node it asks.
``routing`` keeps the newest of each fact, ``peers`` who seems dead, ``gossip`` spreads both, ``codec`` is their bytes
and ``tables`` what clients are shown.
"""
