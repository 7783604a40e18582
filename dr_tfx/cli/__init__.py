"""The commands: flags and one call each, and what every command does before."""
