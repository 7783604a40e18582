"""The alarms that evaluations of a run have raised, for whoever uses its model."""

from pathlib import Path

from dr_tfx.evaluation import scored
from dr_tfx.storage import json_files


def of_run(workdir: Path) -> dict[Path, list[str]]:
    """Return the alarms in each folder below `workdir` that holds an evaluation with alarms.

    An evaluation that cannot be read has none.
    """
    found = {}
    anywhere = scored.usual_folder(Path(), "*") / "metrics.json"
    for path in sorted(workdir.glob(str(anywhere))):
        try:
            alarms = json_files.read(path).get("alarms")
        except (OSError, ValueError):
            continue
        if isinstance(alarms, list) and alarms:
            found[path.parent] = [str(alarm) for alarm in alarms]
    return found
