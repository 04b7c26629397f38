"""Pools that are tables: which files and rows count is said by a log, which the table's own library reads.

listing (the files of a pool, tables included), version (what is known of a table as it was at one moment), place (where
the files of a pool are), location (how libraries call a place), then by kind delta, iceberg, lance and saved (datasets
of Hugging Face).

The libraries are optional (extra `tables`), and loaded only where a pool needs them.
"""
