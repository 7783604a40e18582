"""The job that draws heat maps of a split or of raw photographs."""
