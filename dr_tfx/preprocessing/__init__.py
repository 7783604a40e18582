"""The way from the bytes of a file to the pixels for a model: decoders, recipes, quality."""
