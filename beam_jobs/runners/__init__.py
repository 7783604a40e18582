"""Apache Beam's runners and flags, and what Beam's own runners lack."""
