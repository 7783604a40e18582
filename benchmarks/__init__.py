"""Speed and memory of dr_tfx, against what people use, as ratios of one run.

Every script is started from the repository with `python -m benchmarks.<room>.<script>`, and its
`--help` says what it measures. The rooms are those of `dr_tfx` and `beam_jobs`.
"""
