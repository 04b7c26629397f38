"""Rows of any kind as a source.

base (the protocols), open (anything a caller may hand over), then by kind parquet (with manifest, footer, inspection,
schema) and in_memory; views (some rows of a source), condition and sql (`pool.filter`), targets, lookup (rows by id),
taking (rows by number), bad_rows (those that cannot be used), costs_and_groups, settings.

Imports pyarrow, never torch's engine or Ray, but for costs_and_groups.
"""
