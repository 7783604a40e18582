"""dr_tfx: from raw medical photographs to a trained, honestly evaluated screening model."""

import os

# TensorFlow's C++ start-up notices would bury the progress bars; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

NOTICE = "Research software, not a medical device, not for diagnosis."
"""What stands on everything that shows results."""

__version__ = "0.1.0"
