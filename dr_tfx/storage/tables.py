"""The text of CSV files that people open, in a spreadsheet perhaps."""

import pandas as pd

_RUN = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")  # Spreadsheets run what begins so.


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as the text of a CSV file, without its index.

    A text that a spreadsheet would run as a formula has an apostrophe before it, as OWASP advises
    ("CSV Injection"): a name such as `=HYPERLINK(...)` comes from whoever named the photograph.
    Numbers are as they are.
    """
    columns = {
        name: column if pd.api.types.is_numeric_dtype(column) else column.map(_harmless)
        for name, column in table.items()
    }
    return pd.DataFrame(columns, table.index).to_csv(index=False, lineterminator="\n")


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\\r")  # Python's csv does not quote it, but readers end the line.
    return f"'{text}" if text.startswith(_RUN) else text
