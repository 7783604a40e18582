"""Data sets on disk: records, shards, manifest, splits and leakage between them."""
