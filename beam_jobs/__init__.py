"""The two Apache Beam jobs: building examples and explaining predictions."""
