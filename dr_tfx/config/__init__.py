"""The settings of a run: data set, task, model, training and evaluation, validated."""
