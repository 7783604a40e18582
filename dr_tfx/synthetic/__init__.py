"""Drawn fundus photographs with known lesions, so that nobody's data is needed."""
