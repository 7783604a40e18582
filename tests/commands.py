"""The commands: name of the console script -> its module, in the order of the line."""

COMMANDS = {
    "drtfx-synthesize": "dr_tfx.synthesize_main",
    "drtfx-build-examples": "beam_jobs.build_examples_main",
    "drtfx-train": "dr_tfx.train_main",
    "drtfx-evaluate": "dr_tfx.evaluate_main",
    "drtfx-compare": "dr_tfx.compare_main",
    "drtfx-explain": "beam_jobs.explain_main",
    "drtfx-predict": "dr_tfx.predict_main",
    "drtfx-demo": "dr_tfx.demo_main",
}
