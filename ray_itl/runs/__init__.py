"""A run on disk.

directory (identity, state, resuming), ledger (the picks as they are made), fingerprint (digests of inputs), paths
(which outlive the process), environment (submission id and library versions), command (how the next one is called,
for hints).
"""
