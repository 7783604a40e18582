"""The evaluation of a trained model on photographs from elsewhere."""
