"""Which slots should move to which group, and whether moving them helped: no I/O, no clock, no dice of its own.

``load`` measures, ``stats`` averages, ``planner`` decides, ``accounting`` remembers, ``explain`` tells. A move itself
is an ordinary, cancellable slot migration that the caller starts.
"""
