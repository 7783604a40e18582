"""Benchmarks of scoring."""
