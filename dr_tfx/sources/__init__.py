"""Sources of photographs: folders, patterns, archives and arrays."""
