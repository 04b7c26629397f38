"""Benchmarks that anyone can rerun: times as ratios within one run, medians over repeats, the machine named.

`python -m benchmarks suite=NAME` measures ray_itl alone (engine, whole_runs, scaling, rounds, convergence; many_shards,
what each costs the driver; gpu, the passes on a CUDA device; embedding, texts into embeddings; features, which kernel
picks rows that are like the targets, with kernels; noise, noise_data and noise_report, what each noise picks), beside
what a user might pick rows with instead (queries, many at once; comparison: peers, worker, comparison_report; lines,
those to beat, turn by turn), or says what picks are worth to a language model (the folder value). Shared: settings,
data (the pools), clocked_pool (seconds by stage, told from outside), products (bare copies and products), machine (what
it runs on, and limits), curves_page. Not part of the wheel.
"""
