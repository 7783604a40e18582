"""Predictions of many photographs as a Beam job."""
