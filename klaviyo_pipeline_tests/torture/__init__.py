"""Breaks syncs on purpose, in every way that is known, and compares what is left with an undisturbed run.

`make torture` runs all of it and prints what came out; the tests of this package run a small part.
"""
