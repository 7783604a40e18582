"""Heat maps, their overlays and figures, and measures of whether the maps show lesions."""
