"""Heat maps, overlays, and measures of whether the maps show lesions."""
