"""Selections for many queries at once, each as if selected for alone.

reading (the queries and their targets), checks (options that do not go with queries), parts (what is done, on disk, and
the table of all), run (`select_queries`, resumable), summary (what it says at its end).
"""
