"""The text of CSV files that people open, in a spreadsheet perhaps."""

import pandas as pd

from dr_tfx.storage import seen_text

_RUN = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # Spreadsheets run what begins so.


def csv_text(table: pd.DataFrame, *, header: bool = True) -> str:
    """Return a table as the text of a CSV file, without its index; or its rows alone.

    A text that a spreadsheet would run as a formula has an apostrophe before it, as OWASP advises
    ("CSV Injection"): a name such as `=HYPERLINK(...)` comes from whoever named the photograph.
    A character that is not seen is written as its number. Numbers are as they are.
    """
    columns = {
        name: column if pd.api.types.is_numeric_dtype(column) else column.map(harmless)
        for name, column in table.items()
    }
    return pd.DataFrame(columns, table.index).to_csv(
        index=False, header=header, lineterminator="\n"
    )


def harmless(value: object) -> object:
    """Return a value as it stands in a table: a text that nothing runs, all of it seen."""
    if not isinstance(value, str):
        return value
    text = seen_text.printable(value)
    return f"'{text}" if text.startswith(_RUN) else text
