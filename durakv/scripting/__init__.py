"""Lua scripts and function libraries: a deterministic sandbox, and calls back into the command table."""
