"""Where photographs come from: folders, patterns, archives and arrays."""
