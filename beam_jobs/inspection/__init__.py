"""A first look at photographs and labels: what they are, and the settings that fit them."""
