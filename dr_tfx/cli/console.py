"""What every console script does before its `main`."""

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags

from dr_tfx.machine import resources

_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}
_MISSING = re.compile(r"^flag --(\w+)=None: Flag --\1 must have a value", re.MULTILINE)
_MISSPELT = re.compile(r'Did you mean "(\w+)" instead of "(\w+)"')


def run(
    main: Callable[[Sequence[str]], None],
    *,
    module: str,
    doc: str | None,
    flags_parser: Callable[[list[str]], Sequence[str]] = flags.FLAGS,
) -> None:
    """Runs an absl binary whose `--help` shows its module's text and flags.

    absl looks for both in `__main__`, which under a console script is a few generated lines. What
    is wrong with the command line is said in one line, without absl's page of help.

    Args:
      main: takes the arguments that are left after the flags.
      module: `__name__` of the binary's module.
      doc: its `__doc__`.
      flags_parser: parses the command line and returns what is left of it.
    """
    resources.end_quickly()
    sys.modules["__main__"].__doc__ = doc
    for flag in flags.FLAGS.get_key_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    flags.FLAGS.set_gnu_getopt(True)  # Flags may follow other arguments.

    def parse(argv: list[str]) -> Sequence[str]:
        if "config" in flags.FLAGS and not _HELP.intersection(argv):
            _check_config_file(argv)
        try:
            return flags_parser(argv)
        except flags.Error as error:
            missing = _MISSING.findall(str(error))
            _refuse(_must_be_given(missing) if missing else str(error).removeprefix("flag "))
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            # How ml_collections says that --config.some.setting does not exist or does not fit.
            given = " ".join(word for word in argv if re.match(r"--?config\.", word))
            _refuse(f"{given or '--config'}: {_unquoted(error)}")

    def checked_main(argv: Sequence[str]) -> None:
        try:
            main(argv)
        except app.UsageError as error:
            _refuse(str(error))

    try:
        app.run(checked_main, flags_parser=parse)
    except SystemExit as stop:
        asked = _HELP.intersection(sys.argv[1:])
        sys.exit(0 if asked and stop.code == 1 else stop.code)  # absl takes help for a failure.


def require(*names: str, others: Sequence[str] = ()) -> None:
    """Refuses a command line without these flags.

    For a command that takes another program's flags too, which may be known there: absl alone
    would say of `--label=x` only that `--labels` is missing.

    Args:
      names: the flags.
      others: the words that are no flags of this command.

    Raises:
      app.UsageError: names all flags that have no value, and what may have been meant by one.
    """
    missing = [name for name in names if not flags.FLAGS[name].value]
    if missing:
        given = [word for word in others if word.startswith("-")]
        like = [w for w in given if difflib.get_close_matches(w.strip("-").split("=")[0], missing)]
        typed = f"; {', '.join(like)} is no flag of this command: a typing error?" if like else ""
        raise app.UsageError(_must_be_given(missing) + typed)


def _must_be_given(names: Sequence[str]) -> str:
    return f"{', '.join(f'--{name}' for name in names)} must be given"


def _refuse(message: str) -> NoReturn:
    text = " ".join(message.split()).rstrip(".")
    stop = "" if text.endswith("?") else "."
    sys.exit(f"error: {text}{stop} --help lists the flags and how they are given.")


def _unquoted(error: Exception) -> str:
    """An error's own words: ml_collections wraps an unknown setting in quotes within quotes."""
    misspelt = _MISSPELT.search(str(error))
    if misspelt:
        return "there is no setting '{1}'; did you mean '{0}'?".format(*misspelt.groups())
    unknown = re.fullmatch(r"\W*(\w+)\W*", str(error))
    return f"there is no setting '{unknown[1]}'" if unknown else str(error)


def _check_config_file(argv: Sequence[str]) -> None:
    """Stops where the config file does not exist: ml_collections would say it in five lines."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-config"):
            continue
        path = Path((value if equals else following).partition(":")[0])  # FILE:ARGUMENT
        if path.is_file():
            continue
        message = f"--config={path}: there is no such file"
        folder = path.parent if path.parent.name == "configs" else Path("configs")
        found = sorted(p.name for p in folder.glob("*.py") if p.name != "__init__.py")
        if found:
            message += f"; {folder}/ holds {', '.join(found)}"
        _refuse(message)
