"""From rows to a shard of the engine.

loading (in memory), disk_features, cache and disk_loading (on disk), footprint (the memory and disk it takes).
"""
