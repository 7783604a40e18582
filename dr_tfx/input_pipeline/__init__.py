"""Shards become balanced, augmented batches in bounded memory."""
