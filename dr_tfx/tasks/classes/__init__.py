"""The kind `classes`: several classes without an order, of which the model gives probabilities."""
