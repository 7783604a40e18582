"""Benchmarks of what evaluations tell."""
