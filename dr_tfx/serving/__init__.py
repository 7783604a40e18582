"""Models on their way out: files for programs without dr_tfx or without TensorFlow."""
