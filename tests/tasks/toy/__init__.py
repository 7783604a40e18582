"""A kind of task that the project does not know: a few unordered classes, one a label."""
