"""Benchmarks of what a training can learn."""
