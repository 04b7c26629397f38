"""Real data for the experiments: fetched by package name into a cache, prepared as Parquet, cut into tasks. No Ray."""
