"""Benchmarks of the bootstrap."""
