"""Search the locked packages for known holes, and list them all in a file (SBOM).

    make audit

Each lock/*.txt gives `build/sbom-<lock>.json`, in the format CycloneDX. The holes come from the
database of PyPI, for which the network is needed. A package that could not be looked up counts
as unchecked, and the command then fails: silence is no proof.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_LOCKS = Path(__file__).parent
_BUILD = _LOCKS.parent / "build"


def verdict(name: str, report: dict[str, Any]) -> tuple[str, bool]:
    """Return what a report of pip-audit says about a lock, and whether all is well.

    Args:
      name: the lock's.
      report: what `pip-audit --format=json` prints.
    """
    packages = report["dependencies"]
    if not packages:
        return f"{name}: NOT CHECKED. pip-audit lists no package of it.", False
    unchecked = [one["name"] for one in packages if "skip_reason" in one]
    holes = [
        f"{one['name']} {one['version']}: {hole['id']}"
        + (f", mended in {', '.join(hole['fix_versions'])}" if hole["fix_versions"] else "")
        for one in packages
        for hole in one.get("vulns", ())
    ]
    lines = [f"{name}: {len(packages) - len(unchecked)} of {len(packages)} packages were checked"]
    if len(unchecked) == len(packages):
        lines = [f"{name}: NOT CHECKED. The database of holes cannot be reached from here."]
    elif unchecked:
        lines.append(f"{name}: NOT CHECKED: {', '.join(unchecked)}")
    lines += [f"{name}: HOLE in {hole}" for hole in holes]
    return "\n".join(lines), not holes and not unchecked


def _report(lock: Path) -> dict[str, Any]:
    """Return the report of pip-audit, one without any answer where it gives none."""
    line = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    line += [f"--requirement={lock}", "--format=json", "--progress-spinner=off"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:]
        report = {"dependencies": [{"name": "all", "skip_reason": "".join(last)}]}
    return report


def main() -> None:
    """Write the lists and print the verdicts."""
    _BUILD.mkdir(exist_ok=True)
    all_well = True
    for lock in sorted(_LOCKS.glob("*.txt")):
        made = _BUILD / f"sbom-{lock.stem}.json"
        line = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)]
        subprocess.run([*line, "--output-file", str(made)], check=True)
        said, is_well = verdict(lock.stem, _report(lock))
        print(f"{said}\n{lock.stem}: listed in {made}", flush=True)
        all_well = all_well and is_well
    sys.exit(0 if all_well else 1)


if __name__ == "__main__":
    main()
