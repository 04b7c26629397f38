"""One selection, from options to files.

settings, percentage (how many to pick), limit_settings, result_settings and state_settings, rules (the sequential
rule of some options), inputs (what a caller holds), pool_rows (the pool opened), feature_map, open (everything read
into one feature space) and problem (what comes of it), lengthscale (of the RBF kernel, where nobody sets it),
constraints (limits and lists), quota_values (those that quotas name), beforehand (all that can be checked before a
row is loaded), planning (what it would take, by the rates of this machine; machine_settings, machine_plan and
planning_elsewhere: on others), pool (loaded here or on Ray), loaded_rows (once, for many selections), preparation
(what any run does before it picks), skipping (rows that cannot be used), heldout (what is held out), text_overlap and
decontamination (rows nearly equal to it), likeness (how like the targets rows are: a floor, and the picks), repeats
(picks like earlier ones), run (`curate`, resumable) and attempt (one try at it), then explanation, evaluation,
outputs, carrying (other columns of the same picks), source_rows (the picks with all columns), whole_rows (in the form
of the pool), picked_images (as images) and pushing (at Hugging Face), summary, report, tracking; identity (what
decides a result), demo.
"""
