"""Backbones, numeric precision, and the bundle that a training leaves."""
