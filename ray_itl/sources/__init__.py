"""Rows of any kind as a source.

base (the protocols), open (anything a caller may hand over), then by kind parquet (rows of files: inspection, footer
and delivery look at one, files opens it whatever it is, planned_file what is wanted of it; agreement, columns and
partitions make one pool of many, manifest), in_memory (tables of Arrow) and arrays; tables (Delta, Iceberg, Lance,
saved datasets), text (JSON lines, CSV). What columns may be: schema (embeddings), encoding (of what is embedded while
it is read), ids, types (of anything else), turns (conversations in two columns), named_images (by their paths). views
(some rows of a source), held (those that are read again and again), sql and condition (`pool.filter`, by comparison,
arithmetic and constants), targets, lookup (rows by id), taking (rows by number), bad_rows (those that cannot be
used), costs_and_groups, settings.

Values as people write them and as columns hold them: values (the keys by which they are compared), written (options
read in a column's type), moments (dates and times), column_values (which values a column has).

Imports pyarrow, never torch's engine or Ray, but for costs_and_groups.
"""
