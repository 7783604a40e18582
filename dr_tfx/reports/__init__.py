"""Pages, their templates, and the style of their figures."""
