"""Benchmarks that anyone can rerun: times as ratios within one run, medians over repeats, the machine named."""
