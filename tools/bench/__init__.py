"""Benchmarks: durakv beside its peers, on one machine, interleaved, medians of several rounds."""
