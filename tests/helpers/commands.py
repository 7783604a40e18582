"""The commands: name of the console script -> its module, in the order of the line."""

COMMANDS = {
    "drtfx-synthesize": "dr_tfx.cli.synthesize",
    "drtfx-inspect": "beam_jobs.cli.inspect_input",
    "drtfx-build-examples": "beam_jobs.cli.build_examples",
    "drtfx-train": "dr_tfx.cli.train",
    "drtfx-evaluate": "beam_jobs.cli.evaluate",
    "drtfx-explain": "beam_jobs.cli.explain",
    "drtfx-predict": "dr_tfx.cli.predict",
    "drtfx-compare": "dr_tfx.cli.compare",
    "drtfx-demo": "beam_jobs.cli.demo",
}
