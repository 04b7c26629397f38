"""One selection, from options to files.

settings and limit_settings, problem (everything opened into one feature space), constraints (limits and lists),
planning (what it would take), pool (loaded here or on Ray), run (`curate`, resumable), then explanation, evaluation,
outputs, summary, report, tracking; identity (what decides a result), demo.
"""
