"""Two classes: the probability of the second one."""
