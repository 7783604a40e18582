"""The alarms that evaluations of a run have raised, for whoever uses its model."""

from pathlib import Path

from dr_tfx.storage import json_files

_USUAL = "evaluation/*/metrics.json"


def of_run(workdir: Path) -> dict[Path, list[str]]:
    """Return the alarms in each folder below `workdir` that holds an evaluation with alarms.

    An evaluation that cannot be read has none.
    """
    found = {}
    for path in sorted(workdir.glob(_USUAL)):
        try:
            alarms = json_files.read(path).get("alarms")
        except (OSError, ValueError):
            continue
        if isinstance(alarms, list) and alarms:
            found[path.parent] = [str(alarm) for alarm in alarms]
    return found
