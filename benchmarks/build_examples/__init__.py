"""Benchmarks of the build job."""
