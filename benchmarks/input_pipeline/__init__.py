"""Benchmarks of the training input."""
