"""Figures of merit, the bootstrap over patients, intervals and calibration."""
