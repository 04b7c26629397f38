"""One selection, from options to files.

settings, percentage (how many to pick) and limit_settings, rules (the sequential rule of some options), open
(everything read into one feature space) and problem (what comes of it), constraints (limits and lists), quota_values
(those that quotas name), beforehand (all that can be checked before a row is loaded), planning (what it would take),
pool (loaded here or on Ray), loaded_rows (once, for
many selections), skipping (rows that cannot be used), run (`curate`, resumable), then explanation,
evaluation, outputs, carrying (other columns of the same picks), whole_rows (the picks in the form of the pool),
summary, report, tracking; identity (what decides a result), demo.
"""
