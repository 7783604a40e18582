"""dr_tfx: from raw medical photographs to a trained, honestly evaluated screening model."""

__version__ = "0.1.0"
