"""A Ray cluster as it is met: whoever needs one connects here, and waits here for room on it.

connection (one for all of this process), address (which cluster is meant), head (is it there, with our token and
versions), local (a cluster of this machine's own), nodes (what they have and what is free), room (what is asked beside
it, in figures and words) and waiting (until there is room, or a deadline).
"""
