"""What this machine has: cores, and memory with a ceiling."""
