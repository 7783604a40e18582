"""A run on the Hub of Hugging Face: its bundle and its model card, and nothing else.

No photograph leaves, and so no report, whose gallery has some; no table of predictions either.
bundle.json names photographs that are there twice, and patients in several splits: they are
numbered instead.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dr_tfx.evaluation import model_card, reproduce
from dr_tfx.evaluation.scored import SELECTION_SPLIT
from dr_tfx.models import bundle_file

CARD = "README.md"  # What the Hub shows of a repository.


def push(workdir: Path, repository: str, *, private: bool = True) -> str:
    """Write a run into a repository of the Hub, in one commit, and return the commit's address.

    Where the Hub is, and who one is there, is said by HF_ENDPOINT and HF_TOKEN, or by
    `hf auth login`.

    Args:
      workdir: folder of a run, or of an ensemble, that has been evaluated.
      repository: `USER/NAME`, created if it is missing.
      private: whether a new repository is.

    Raises:
      FileNotFoundError: there is no bundle.
      ValueError: it is damaged or not evaluated, the package is missing, or the Hub refuses.
      OSError: the Hub cannot be reached.
    """
    content = contents(workdir)
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            f"huggingface_hub cannot be imported: {error}. Install it: pip install 'dr_tfx[hub]'"
        ) from error
    hub = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        commit = hub.create_commit(
            repository,
            [
                huggingface_hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=data)
                for name, data in content.items()
            ],
            commit_message=f"{workdir.name}, by dr_tfx",
        )
    except huggingface_hub.errors.HfHubHTTPError as error:
        raise ValueError(f"the Hub refuses {repository!r}: {_words(error)}") from error
    except huggingface_hub.errors.HFValidationError as error:
        raise ValueError(
            f"--repository is {repository!r}; expected USER/NAME: {_words(error)}"
        ) from error
    except Exception as error:  # What the transport raises depends on the version.
        raise ConnectionError(
            f"the Hub at {hub.endpoint} did not take {repository!r}: {_words(error)}"
        ) from error
    return str(commit.commit_url)


def contents(workdir: Path) -> dict[str, bytes]:
    """Return the files that a push writes, by name.

    Raises:
      FileNotFoundError: there is no bundle.
      ValueError: it is damaged, or it has no card of its present weights.
    """
    bundle = bundle_file.read(workdir)
    weights = bundle_file.checked_weights(bundle, workdir)
    card = model_card.of_run(workdir)
    text = card.read_text(encoding="utf-8") if card else ""
    if bundle.fitted is None or bundle_file.digest(weights) not in text:
        split = card.parent.name if card and bundle.fitted else SELECTION_SPLIT
        raise ValueError(
            f"{workdir} has no model card of its present weights, because it has not been "
            f"evaluated. Run first: {reproduce.evaluation_command(workdir, split)}"
        )
    manifest, numbers = _numbered(bundle.manifest)
    raw = json.loads((workdir / bundle_file.BUNDLE_FILE).read_bytes())
    for name in sorted(numbers, key=len, reverse=True):
        text = text.replace(name, numbers[name])
    return {
        CARD: text.encode(),
        bundle_file.BUNDLE_FILE: json.dumps(raw | {"manifest": manifest}, indent=2).encode(),
        bundle_file.WEIGHTS_FILE: weights,
        bundle_file.MODEL_FILE: (workdir / bundle_file.MODEL_FILE).read_bytes(),
    }


def _numbered(manifest: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a manifest that names no photograph and no patient, and the numbers for the names."""
    numbers: dict[str, str] = {}

    def number(name: str, kind: str) -> str:
        return numbers.setdefault(name, f"{kind}-{len(numbers) + 1}")

    groups = {
        key: [
            {**group, "ids": [number(name, "photograph") for name in group["ids"]]}
            for group in manifest[key]
        ]
        for key in ("twins", "near_twins")
    }
    names = [number(name, "patient") for name in manifest["shared_names"]]
    return {**manifest, **groups, "shared_names": names}, numbers


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
