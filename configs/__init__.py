"""One file a run: `get_config()` returns a ConfigDict that `dr_tfx.specs.from_config` validates."""
