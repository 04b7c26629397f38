"""Exact selections for many queries of one pool at once: they share the passes over it.

query (greedy picks among rows that were fetched for one query), questions (what shards answer for all queries in one
pass), best (the best rows of each, gathered during a pass), left_out (bounds of what was not fetched), selector
(`ManySelector`).
"""
