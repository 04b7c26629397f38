"""Files and filesystems, apart from what is in them.

atomic (files whole or not at all), filesystems (any of them, opened), listing (paths to files), globs (which paths are
meant), walk (what is below a folder), tables (which folders are tables), credentials (noticing and masking them),
process (which one this is, and whether one has ended), temporary (folders that go with their process).
"""
