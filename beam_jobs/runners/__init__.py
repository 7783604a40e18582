"""Apache Beam's flags, and runners that do what its own runners lack."""
