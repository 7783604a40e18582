"""What every console script does before its `main`."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}


def run(
    main: Callable[[Sequence[str]], None],
    *,
    module: str,
    doc: str | None,
    flags_parser: Callable[[list[str]], Sequence[str]] = app.parse_flags_with_usage,
) -> None:
    """Runs an absl binary whose `--help` shows its module's text and flags.

    absl looks for both in `__main__`, which under a console script is a few generated lines.

    Args:
      main: takes the arguments that are left after the flags.
      module: `__name__` of the binary's module.
      doc: its `__doc__`.
      flags_parser: parses the command line and returns what is left of it.
    """
    sys.modules["__main__"].__doc__ = doc
    for flag in flags.FLAGS.get_key_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    flags.FLAGS.set_gnu_getopt(True)  # Flags may follow other arguments.

    def parse(argv: list[str]) -> Sequence[str]:
        try:
            return flags_parser(argv)
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            # How ml_collections says that --config.some.setting or the file does not exist.
            message = " ".join(str(error).replace("\\n", " ").split())
            given = " ".join(word for word in argv if word.startswith("--config"))
            sys.exit(f"error: {given}: {message}. --help shows how settings are given.")

    try:
        app.run(main, flags_parser=parse)
    except SystemExit as stop:
        asked = _HELP.intersection(sys.argv[1:])
        sys.exit(0 if asked and stop.code == 1 else stop.code)  # absl takes help for a failure.
