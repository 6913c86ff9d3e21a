"""Benchmarks: every figure is a ratio within one run, or a count; never a bare time."""
