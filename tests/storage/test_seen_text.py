"""Names that others chose, as they are shown and as names of files."""

import logging

from dr_tfx.storage import seen_text


def test_what_is_not_seen_is_written_as_its_number():
    assert seen_text.printable("a\x1b\r\n\0\u202e\udcffé안") == (
        "a\\u001b\\u000d\\u000a\\u0000\\u202e\\udcffé안"
    )


def test_the_name_of_a_file_stays_in_its_folder_and_fits_its_disk(tmp_path):
    for text in ("../../x", "..", "", "a/b\\c", "é" * 300, "\udcff", "x\0y"):
        name = seen_text.file_stem(text)
        (tmp_path / f"{name}-12.png").write_bytes(b"")
        assert (tmp_path / f"{name}-12.png").parent == tmp_path and not name.startswith(".")
    assert seen_text.file_stem("10_left") == "10_left"


def test_a_name_in_a_log_turns_and_clears_no_terminal(monkeypatch, caplog):
    monkeypatch.setattr(logging, "_logRecordFactory", logging.getLogRecordFactory())
    seen_text.in_logs()
    logging.getLogger("any").warning("%s: %d of %s", "a\x1b[2J\u202e", 3, ["\x1b"])
    assert caplog.messages == ["a\\u001b[2J\\u202e: 3 of ['\\x1b']"]
