"""A trained bundle and a split give figures of merit, a report and comparisons."""
