"""Tests of real server processes over real sockets on loopback."""
