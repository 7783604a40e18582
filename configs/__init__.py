"""One file a run: `get_config()` gives what `dr_tfx.config.specs` validates."""
