"""The words of the page, of which a script needs some by name.

What a model says stays as its config has it: names of classes are nobody's to translate.
"""

from dr_tfx.words import languages

_WORDS = {
    "language": languages.NAME,
    "title": "Read photographs",
    "assists": "It assists, and does not diagnose.",
    "notice": (
        "Research software, not a medical device. What it says is no diagnosis: a person "
        "looks at every photograph, and decides."
    ),
    "private": (
        "Photographs go to this server alone, are held in memory until they are answered, and "
        "are not stored."
    ),
    "alarms": "Alarms of this model’s evaluation",
    "drop": "Drop photographs here, or choose them",
    "formats": "JPEG, PNG, TIFF, BMP, WebP, HEIC, JPEG 2000 or DICOM; several at once",
    "key": "Key of the server",
    "model": "Model",
    "version": "version",
    "drift": "Drift",
    "rule": "Rule",
    "clear_all": "Remove all",
    "answers": "Answers",
    "reading": "Reading",
    "waiting": "The server is busy; trying again",
    "done": "Photographs answered:",
    "suspected": "Suspected",
    "clear": "Nothing suspected",
    "decided": "Answer",
    "of_patient": "Patient {patient}: {n} photographs here, {m} of them suspected",
    "not_read": "Not read",
    "failed": "No answer",
    "probabilities": "Probabilities",
    "lesions": "Marks and their share of the picture",
    "outlines": "Outlines",
    "details": "All figures",
    "view": "View",
    "original": "Original",
    "seen": "As the model sees it",
    "overlay": "Overlay",
    "heatmap": "Heat map",
    "opacity": "Opacity of what is laid over",
    "zoom": "Zoom",
    "shown": "The photograph as the model sees it, with the places that raised the number",
    "flagged": "The quality gate has doubts about this photograph",
    "black": "The photograph is black.",
    "blown_out": "The photograph is overexposed.",
    "no_retina": "No retina is seen on the photograph.",
    "unreadable": "The file is damaged, or no image of a known format.",
    "too_large": "The photograph is too large.",
    "no_hounsfield_units": "The file holds no CT in Hounsfield units.",
    "wrong_key": "The key is missing or wrong.",
    "no_server": "The server does not answer.",
}
LANGUAGES = {
    code: {name: languages.of(code).template(english) for name, english in _WORDS.items()}
    for code in languages.codes()
}
"""The words of each language by name. The first is for whoever asks for none of these."""
