"""One file of a pool, of whatever kind it is.

opened (what is known of a file, and how its rows are read), then the kinds: parquet, text (by its twin), fragment (of a
Lance dataset), images (of one folder) and image_columns (what a file beside them says of these), arrow (as datasets
saves it); kinds says which of them a file is.
"""
