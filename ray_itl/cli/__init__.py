"""The command line.

config (the edge to Hydra), hydra_words (its refusals in words), guard (exit codes, signals, one line for every error).
"""
