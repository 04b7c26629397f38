"""Docstring.

Benchmarks that anyone can rerun: times as ratios within one run, medians over repeats, the machine named.

What a user might pick rows with instead: one file for each package, used as its documentation says.
"""
