"""The resources of this machine: cores, and memory with a ceiling."""
