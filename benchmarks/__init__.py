"""Benchmarks that anyone can rerun: times as ratios within one run, medians over repeats, the machine named.

`python -m benchmarks suite=NAME` measures ray_itl alone (engine, whole_runs, scaling, rounds, convergence) or beside
what a user might pick rows with instead (comparison: peers, worker, comparison_report). Shared: settings, data (the
pools), machine (what it runs on, and limits), curves_page. Not part of the wheel.
"""
