"""The kind `contrastive`: a backbone learns from photographs without labels (SimCLR)."""
