"""Benchmarks. Every result is a ratio within one run, or a count, never an absolute time."""
