"""The last line of a command that did not end well: errors of the system in plain words."""

import errno
import resource
import sys
from types import TracebackType

_SAME = "Give the same command again then: what is finished is kept"
_WORDS = {
    errno.ENOSPC: f"no space is left for {{file}}. Make room on its disk. {_SAME}",
    errno.EDQUOT: f"your quota has no space left for {{file}}. Make room on its disk. {_SAME}",
    errno.EFBIG: "{file} has become larger than a file may be here. Raise the limit with `ulimit "
    f"-f unlimited`, or choose another disk. {_SAME}",
    errno.EROFS: "{file} cannot be written: its disk is read-only. Choose another folder for the "
    "results (--output_dir, or --workdir of a training)",
    errno.EACCES: "{file}: permission denied. Choose another place, or have its rights changed",
    errno.EPERM: "{file}: the system does not permit it. Choose another place, or have its rights "
    "changed",
    errno.EMFILE: "too many files are open to open {file}: this process may open {files}. Raise "
    "the limit with `ulimit -n 4096`",
    errno.ENOENT: "{file}: there is no such file or folder",
    errno.ENOTDIR: "{file} is a file, or lies in one; expected a folder",
    errno.EISDIR: "{file} is a folder; expected a file",
    errno.EPIPE: f"the program that reads this output has ended. {_SAME}",
}


def told(error: BaseException) -> str:
    """Return what an error says, those of the system with their file and what to do."""
    words = _WORDS.get(getattr(error, "errno", None) or 0)
    if words is None or not str(error).startswith("[Errno"):
        return str(error)  # It was written for people.
    file = getattr(error, "filename", None) or "the output"
    return words.format(file=file, files=resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def told_interrupt(stop: KeyboardInterrupt) -> str:
    """Return what a person is told who pressed Ctrl-C."""
    return str(stop) or "interrupted. The same command again goes on with what is finished."


def told_before_start(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say one line about a Ctrl-C while a command is still loaded; a hook for `sys.excepthook`."""
    if isinstance(error, KeyboardInterrupt):
        print(f"\n{told_interrupt(error)}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
