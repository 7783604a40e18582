"""Lesions in a photograph: the probability of each kind at each pixel."""
