"""A trained model on photographs from elsewhere."""
