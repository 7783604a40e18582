"""Benchmarks of heat maps."""
