"""The page of the server: photographs are dropped on it, and the answers are shown beside them.

It is made of a template, a style and a script, all served from here; no address of others is in it.
The script asks `/v1/predict` as any other client does.
"""

import functools
import json
import threading
from collections.abc import Sequence
from pathlib import Path

from dr_tfx.preprocessing import recipes
from dr_tfx.reports import pages
from dr_tfx.serving.days import TOGETHER, Days
from dr_tfx.serving.page_words import LANGUAGES
from dr_tfx.serving.served_model import ServedModel
from dr_tfx.statistics import drift
from dr_tfx.words import languages

_DRAWING = threading.Lock()
_FOLDER = Path(__file__).parent / "templates"
FILES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
"""The MIME types of the other files of the page, by their endings."""


def html(model: ServedModel, *, photographs: int, language: str, asks_key: bool) -> str:
    """Return the page.

    Args:
      model: what reads the photographs.
      photographs: the most in a request. They are sent together where the model sees neighbouring
        slices, and one by one otherwise.
      language: a key of `LANGUAGES`.
      asks_key: whether a key has to be typed.
    """
    words = LANGUAGES[language]
    together = photographs if recipes.takes_neighbours(model.recipe) else 1
    settings = {"heatmaps": model.explain is not None, "together": together, "words": words}
    with languages.speaking(language):
        return pages.render(
            "clinic.html.j2",
            templates=_FOLDER,
            model=model,
            words=words,
            languages={name: of["language"] for name, of in LANGUAGES.items()},
            asks_key=asks_key,
            # Within an element <script>, a text must not end it.
            settings=json.dumps(settings, ensure_ascii=False).replace("<", "\\u003c"),
        )


def drift_html(model: ServedModel, days: Days | None, *, language: str) -> str:
    """Return the page of the days: photographs beside those of validation.

    Args:
      model: what reads the photographs.
      days: what it has read; None where drift cannot be told.
      language: a key of `LANGUAGES`.
    """
    links = {name: of["language"] for name, of in LANGUAGES.items()}
    if days is None:
        with languages.speaking(language):
            return pages.render(
                "no_drift.html.j2", name=model.experiment.task.name, why=model.untold, links=links
            )
    from dr_tfx.inference import drift_page  # It loads matplotlib, which a start need not wait for.

    reference = days.watch.reference
    windows = [
        drift_page.Window(TOGETHER if day is None else str(day), drift.judge(reference, counted))
        for day, counted in days.counted().items()
    ]
    with _DRAWING:  # The style of figures is the process's.
        return drift_page.html(
            windows,
            reference,
            model=model.experiment.task.name,
            language=language,
            about=f"Counted since {days.since:%Y-%m-%d %H:%M %Z}, in memory alone.",
            links=links,
        )


@functools.cache
def text_of(ending: str) -> str:
    """Return the file of the page with an ending of `FILES`."""
    text = (_FOLDER / f"clinic.{ending}").read_text(encoding="utf-8")
    return pages.render("style.css") + text if ending == "css" else text


def language_of(asked: str, accepted: str) -> str:
    """Return the language of the page.

    Args:
      asked: the one that the address asks for; "" for none.
      accepted: the browser's header Accept-Language.
    """
    if asked in LANGUAGES:
        return asked
    first: Sequence[str] = [
        one.partition(";")[0].strip()[:2].lower() for one in accepted.split(",")
    ]
    return next((one for one in first if one in LANGUAGES), next(iter(LANGUAGES)))
