"""Bytes of a photograph become pixels for a model: decoders, recipes, quality."""
