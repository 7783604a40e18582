"""A temporary folder of one's own, which goes with the process and everything it made there.

Beam and TensorFlow's autograph leave temporary files behind when their process is killed. In a
folder of the process's own they are told from those of others: the next process removes them.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from dr_tfx.storage import locks

_PREFIX = "drtfx-"
_YOUNG = 60.0  # Seconds, in which a folder that was just made may not be locked yet.


def use_own_folder() -> None:
    """Let this process and those it starts put their temporary files into a new folder.

    It is removed when the process ends. The folders that killed processes left are removed now.

    Raises:
      OSError: there is no place for temporary files.
    """
    try:
        parent = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OSError(
            "no folder for temporary files can be written, neither the system's nor the current "
            "one. Name one that can: export TMPDIR=FOLDER"
        ) from error
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    held = contextlib.ExitStack()
    held.enter_context(locks.held(folder))

    def remove() -> None:
        held.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of this user whose processes have ended."""
    with os.scandir(parent) as entries:
        found = [entry for entry in entries if entry.name.startswith(_PREFIX)]
    for entry in found:
        with contextlib.suppress(OSError):  # Its process lives, or another one removes it now.
            status = entry.stat(follow_symlinks=False)
            mine = entry.is_dir(follow_symlinks=False) and status.st_uid == os.geteuid()
            if mine and time.time() - status.st_mtime > _YOUNG:
                with locks.held(entry.path):
                    shutil.rmtree(entry.path, ignore_errors=True)
