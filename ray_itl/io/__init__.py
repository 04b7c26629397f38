"""Files and filesystems, apart from what is in them.

atomic (files whole or not at all), cache (a folder of what can be made again), filesystems (any of them, opened),
listing (paths to files), globs (which paths are meant), text_files (which are text with rows), image_files (which are
images) and image_lists (those of one folder), walk (what is below a folder), tables (which folders are tables),
hub_paths (data sets on Hugging Face's hub), hub (rows as one of them) and hub_names (what they may be called),
credentials (noticing and masking them), process (which one this is, and whether one has ended), temporary (folders that
go with their process).
"""
