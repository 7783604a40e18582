"""The kind `multilabel`: several labels an image, of which any number may hold."""
