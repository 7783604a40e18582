"""The start of every console script, and its end: help, and one line about what went wrong."""

import contextlib
import difflib
import errno
import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags

from dr_tfx.cli import endings
from dr_tfx.config import config_files, typed
from dr_tfx.machine import error_lines, interrupts, resources
from dr_tfx.storage import seen_text, temporary
from dr_tfx.words import languages

_OF_TRAIN = {"jinja2", "keras", "tensorflow"}  # Modules that only the extra `train` installs.
_OF_SERVE = {"fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn"}  # And `serve`.
_BY_SIGNAL = 128  # What shells add to the number of a signal: 130 is Ctrl-C.
_OF_OUTPUT = (errno.ENOSPC, errno.EPIPE)  # A full device, a reader that has gone.
LANGUAGE = (languages.ENGLISH, languages.codes(), "Language of the page and the figures.")
"""What a command that writes some gives `flags.DEFINE_enum` after the name: --lang."""
_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}


def run(
    main: Callable[[Sequence[str]], None],
    *,
    module: str,
    doc: str | None,
    flags_parser: Callable[[list[str]], Sequence[str]] = flags.FLAGS,
    decodes: bool = False,
    below_help: Callable[[], str] | None = None,
) -> None:
    """Run an absl binary whose `--help` shows its module's text and flags.

    absl looks for both in `__main__`, which under a console script is a few generated lines. A
    wrong command line ends with one line that says what is wrong, without absl's page of help. So
    does an error that a person can do something about (ValueError, OSError, memory), Ctrl-C and
    SIGTERM. `~` at the beginning of a flag or an argument is the person's home, as in a shell.

    Args:
      main: takes the arguments that are left after the flags.
      module: `__name__` of the binary's module.
      doc: its `__doc__`.
      flags_parser: parses the command line and returns what is left of it.
      decodes: whether the command decodes photographs, so that decoders speak of them.
      below_help: returns what `--help` prints below the flags, if there is more.
    """
    interrupts.end_alike()
    resources.end_quickly()
    seen_text.in_logs()
    # A name in a script that no typeface of the figures has is shown as boxes.
    warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # It tells of each list of typefaces.
    sys.modules["__main__"].__doc__ = doc
    for flag in flags.FLAGS.get_key_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    flags.FLAGS.set_gnu_getopt(True)  # Flags may follow other arguments.

    def parse(argv: list[str]) -> Sequence[str]:
        return _parsed(argv, flags_parser)

    def checked(argv: Sequence[str]) -> None:
        _checked(main, argv, decodes=decodes)

    last = _printed(_ended(lambda: app.run(checked, flags_parser=parse)), below_help)
    if isinstance(last, str):
        last = seen_text.lines(last)
    sys.exit(last)


def known_flags(argv: Sequence[str]) -> list[str]:
    """Parse a command's own flags and return all other words: a `flags_parser` of jobs."""
    flags.FLAGS.set_gnu_getopt(True)  # `--runner Name --workdir=...`: read on after the `Name`.
    return flags.FLAGS(argv, known_only=True)


def _parsed(argv: list[str], flags_parser: Callable[[list[str]], Sequence[str]]) -> Sequence[str]:
    """Parse a command line and return what is left of it; a wrong one ends the command."""
    if _takes_config() and not _HELP.intersection(argv):
        argv = _with_config_files(argv)
    try:
        left = [_at_home(word) for word in flags_parser(argv)]
        _expand_homes()
        return left
    except flags.Error as error:
        missing = _missing() if flags.FLAGS.is_parsed() else []
        told = f"{_without_trace(str(error))}{_setting_meant(error, argv)}"
        _refuse(_must_be_given(missing) if missing else told)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        if getattr(error, "errno", None) in _OF_OUTPUT:
            raise  # --help could not be printed.
        # ml_collections raises these where --config.some.setting does not exist or fit.
        given = " ".join(word for word in argv if _setting(word))
        _refuse(f"{given or '--config'}: {_unknown_setting(argv) or error}")


def _without_trace(text: str) -> str:
    """Return what an error says; of a config that raises one, ml_collections tells the trace."""
    flag, trace, lines = text.partition("Error whilst parsing config file:")
    if not trace:
        return text
    last = lines.strip().splitlines()[-1]
    return f"{flag}{last.partition(': ')[2] or last}"


def _checked(main: Callable[[Sequence[str]], None], argv: Sequence[str], *, decodes: bool) -> None:
    """Run a command; an error that a person can do something about ends it with its sentence."""
    try:
        temporary.use_own_folder()
        decoders = error_lines.without_decoders() if decodes else contextlib.nullcontext()
        spoken = flags.FLAGS["lang"].value if "lang" in flags.FLAGS else languages.ENGLISH
        with decoders, languages.speaking(spoken):
            main(argv)
    except app.UsageError as error:
        _refuse(str(error))
    except (ValueError, resources.MemoryCeilingError) as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        if error.name in _OF_SERVE:
            sys.exit(
                f"error: the module {error.name} is not installed, which a server needs. "
                "Type: pip install 'dr_tfx[serve]'"
            )
        if error.name not in _OF_TRAIN:
            raise
        sys.exit(
            f"error: the module {error.name} is not installed: this command needs TensorFlow, "
            "and what reports are made with. Type: pip install 'dr_tfx[train]'"
        )


def _ended(start: Callable[[], None]) -> int | str | None:
    """Run a command to its end, and return its exit code, or the last line of one that fails."""
    try:
        start()
    except SystemExit as stop:
        # absl takes help for a failure.
        return 0 if _is_help_asked() and stop.code == 1 else stop.code
    except OSError as error:
        return f"error: {endings.told(error)}"
    except KeyboardInterrupt as stop:
        for number in (signal.SIGINT, signal.SIGTERM):  # A second one ends what is left at once.
            signal.signal(number, signal.SIG_DFL)
        print(f"\n{endings.told_interrupt(stop)}", file=sys.stderr)
        return _BY_SIGNAL + interrupts.received()
    return None


def _printed(code: int | str | None, below_help: Callable[[], str] | None) -> int | str | None:
    """Return the exit code, or the last line, after all that was printed has left this process."""
    try:
        if code == 0 and below_help is not None and _is_help_asked():
            print(f"\n{below_help()}")
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Python would try once more, and say that it ignores the error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or f"error: {endings.told(error)}"
    return code


def _is_help_asked() -> bool:
    return bool(_HELP.intersection(sys.argv[1:]))


def tell_next(*line: str) -> None:
    """Tell whoever watches the command that most people type next.

    It goes to stderr: the last line of stdout is the path that was made.
    """
    print(f"Next: {shlex.join(line)}", file=sys.stderr)


def require(*names: str, others: Sequence[str] = ()) -> None:
    """Refuse a command line without these flags.

    It serves commands that also take another program's flags: of `--label=x`, which that program
    may know, absl alone would only say that `--labels` is missing.

    Args:
      names: the flags.
      others: the words that are no flags of this command.

    Raises:
      app.UsageError: names all flags that have no value, and the words that look like one of them.
    """
    missing = [name for name in names if not flags.FLAGS[name].value]
    if missing:
        given = [word for word in others if word.startswith("-")]
        like = [w for w in given if difflib.get_close_matches(w.strip("-").split("=")[0], missing)]
        typed = f"; {', '.join(like)} is no flag of this command: a typing error?" if like else ""
        raise app.UsageError(_must_be_given(missing) + typed)


def _expand_homes() -> None:
    """Replace `~` at the beginning of every flag's value, which a shell leaves after a `=`."""
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if isinstance(flag.value, str) and "~" in flag.value:
            flag.value = _at_home(flag.value)


def _at_home(text: str) -> str:
    """Return a path, or several with commas between them, without `~` at a beginning."""
    return ",".join(map(os.path.expanduser, text.split(",")))


def _must_be_given(names: Sequence[str]) -> str:
    return f"{', '.join(f'--{name}' for name in names)} must be given"


def _missing() -> list[str]:
    """Return the required flags that have no value, in the order of their definition."""
    validators = {v for name in flags.FLAGS for v in flags.FLAGS[name].validators}
    missing = []
    for validator in sorted(validators, key=lambda validator: validator.insertion_index):
        try:
            validator.verify(flags.FLAGS)
        except flags.ValidationError:
            names = validator.get_flags_names()
            missing += [name for name in names if flags.FLAGS[name].value is None]
    return missing


def _refuse(message: str) -> NoReturn:
    text = " ".join(message.split()).rstrip(".")
    stop = "" if text.endswith("?") else "."
    sys.exit(f"error: {text}{stop} --help lists the flags and how they are given.")


def _setting(word: str) -> list[str]:
    """Return the keys that a word such as `--config.model.hidden=()` names, else []."""
    flag = word.partition("=")[0]
    config, *keys = flag.lstrip("-").split(".")
    return keys if flag.startswith("-") and config in ("config", "noconfig") else []


def _unknown_setting(argv: Sequence[str]) -> str:
    """Return a sentence about the first setting that the config does not have, else ""."""
    for value in (argv[i].rpartition("=")[2] for i in _places_of_configs(argv)):
        config = flags.FLAGS["config"].parser.parse(value)
        for keys in map(_setting, argv):
            group: Any = config
            for key in keys:
                if not hasattr(group, "keys"):
                    break  # The value is no group, and the error says more.
                if key not in group:
                    like = difflib.get_close_matches(key, group.keys(), n=1)
                    meant = like[0] if like else _like(keys[-1], config)
                    return f"there is no setting '{key}'" + (meant and f"; did you mean '{meant}'?")
                group = group[key]
    return ""


def _setting_meant(error: flags.Error, argv: Sequence[str]) -> str:
    """Return words on the setting that may be meant by a flag which does not exist, else ""."""
    if isinstance(error, flags.UnrecognizedFlagError) and _takes_config():
        for place in _places_of_configs(argv):
            config = flags.FLAGS["config"].parser.parse(argv[place].rpartition("=")[2])
            if meant := _like(error.flagname.rpartition(".")[2], config):
                return f". Settings are given as --config.{meant}=VALUE."
    return ""


def _like(name: str, config: Any) -> str:
    """Return the dotted name of the setting that is called so, or like it, else "".

    A name may be short: `lr` is `training.learning_rate`.
    """
    settings = {key.rpartition(".")[2]: key for key in reversed(typed.flat(config.to_dict()))}
    short = {"".join(word[0] for word in name.split("_")): name for name in settings if "_" in name}
    like = difflib.get_close_matches(name, settings, n=1)
    found = name if name in settings else short.get(name, like[0] if like else "")
    return settings.get(found, "")


def _takes_config() -> bool:
    """Tell whether the command has a flag --config that reads a file, and not only its name."""
    return "config" in flags.FLAGS and flags.FLAGS["config"].flag_type() != "string"


def _places_of_configs(argv: Sequence[str]) -> Iterator[int]:
    """Yield the places of the words of --config=FILE, or of FILE where the two are apart."""
    for place, word in enumerate(argv):
        flag, equals, _ = word.partition("=")
        if flag in ("--config", "-config") and (equals or place + 1 < len(argv)):
            yield place if equals else place + 1


def _with_config_files(argv: Sequence[str]) -> list[str]:
    """Return a command line on which configs are files, also where they were given by name.

    One that does not exist is refused; ml_collections would take five lines for it.
    """
    words = list(argv)
    for place in _places_of_configs(words):
        flag, equals, given = words[place].rpartition("=")
        file = config_files.find(given)
        path = Path(file.partition(":")[0])
        if not path.expanduser().is_file():
            _refuse(config_files.unknown(given))
        words[place] = f"{flag}{equals}{file}"
    return words
