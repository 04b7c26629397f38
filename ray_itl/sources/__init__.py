"""Rows of any kind as a source.

base (the protocols), open (anything a caller may hand over), then by kind parquet (with manifest, footer, inspection,
schema) and in_memory; views (some rows of a source), sql and condition (`pool.filter`, by comparison, arithmetic and
constants), targets, lookup (rows by id),
costs_and_groups, settings.

Values as people write them and as columns hold them: values (the keys by which they are compared), written (options
read in a column's type), moments (dates and times), column_values (which values a column has).

Imports pyarrow, never torch's engine or Ray, but for costs_and_groups.
"""
