"""Scores of batches and splits, with test-time augmentation."""
