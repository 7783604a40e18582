"""What a run is: validated settings of data set, task, model, training and evaluation."""
