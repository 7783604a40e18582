"""The commands of the Beam jobs: flags and one call each."""
