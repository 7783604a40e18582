"""The Beam job that draws the heat maps of a split or of raw photographs."""
