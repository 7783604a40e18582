"""Everything that is fitted on `validation`, and frozen for every other split."""

import dataclasses
import json
from typing import Any

from dr_tfx.config import typed


@dataclasses.dataclass(frozen=True)
class ClassesFitted:
    """The temperature of one model; see `multiclass.apply_temperature`."""

    split: str  # The split that it was fitted on.
    temperature: typed.Positive

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types, lists among them, as they are read back from a file."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain
