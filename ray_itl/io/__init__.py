"""Files and filesystems, apart from what is in them.

atomic (files whole or not at all), filesystems (paths to files), credentials (noticing and masking them), temporary
(folders that go with their process).
"""
