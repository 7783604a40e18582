"""Benchmarks of data sets on disk."""
