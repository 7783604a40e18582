"""The training run: loop, checkpoints, devices and objectives."""
