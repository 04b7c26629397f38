"""From rows to a shard of the engine.

loading (in memory), by reading (in threads) and conversion (to what is stored), into huge_pages; source_pool (such
shards as a pool), part (some rows of a loaded pool as one of their own); disk_features, disk_copies, cache and
disk_loading (on disk); footprint (memory and disk it takes).
"""
