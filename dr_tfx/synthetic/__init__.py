"""Drawn fundus photographs with known lesions, so that no patient's data is needed."""
