"""Reliability tests: disturb syncs in every known way, and compare the tables with those of an undisturbed run.

`make torture` runs all of them and prints the results. The tests in this package run a small part.
"""
