"""The commands of the Beam jobs: flags and one call each."""

import dr_tfx.cli  # noqa: F401 - It answers Ctrl-C while Beam is loaded.
