"""A pool that is loaded once and selected from again and again.

pool (`open_pool`; one selection at a time, or for many queries at once), many (what is handed over for these).
"""
