"""A run goes on at once where it was, in the order of an uninterrupted one."""

import itertools
from typing import ClassVar

import numpy as np

from dr_tfx.input_pipeline import kept_order

ORDER = kept_order.Order(
    [9000, 500, 7], np.array([[0.5, 0.3, 0.2]]), examples=9507, seed=5, mix="random", length=64
)


class Noted(kept_order.Order):
    """The same order, which notes from where on its blocks are made."""

    begun: ClassVar[list[int]] = []

    def blocks(self, first):
        self.begun.append(first)
        return super().blocks(first)


def take(first, count, kept, order=ORDER):
    found = kept_order.blocks(order, first=first, kept=kept)
    return np.stack(list(itertools.islice(found, count)))


def test_places_are_taken_up_and_the_order_stays(tmp_path):
    whole = take(0, 120, None)
    kept = kept_order.Kept(tmp_path / "order-0", every=16)
    assert np.array_equal(take(0, 90, kept), whole[:90])
    noted = Noted(*ORDER)
    # The places before blocks 48, 64 and 80 are kept: the first is for a checkpoint that is older.
    for first, expected in ((70, 0), (48, 0), (47, 47)):
        assert np.array_equal(take(first, 8, kept, noted), whole[first : first + 8])
        assert noted.begun.pop() == expected and not noted.begun
    # One that could not take up a place keeps some for the next.
    other = kept._replace(folder=tmp_path / "order-1")
    assert np.array_equal(take(50, 30, other), whole[50:80])
    assert np.array_equal(take(65, 8, other, noted), whole[65:73]) and noted.begun == [50]
    assert len(list(kept.folder.glob("*.index"))) == 3


def test_a_damaged_place_or_one_of_another_order_is_not_taken_up(tmp_path):
    whole = take(0, 40, None)
    kept = kept_order.Kept(tmp_path, every=16)
    take(0, 40, kept)
    for file in tmp_path.glob("*.data-*"):
        file.write_bytes(file.read_bytes()[:-9] + bytes(9))
    assert np.array_equal(take(36, 4, kept), whole[36:])
    other = ORDER._replace(seed=6)
    assert np.array_equal(take(36, 4, kept, other), take(36, 4, None, other))


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    kept = kept_order.Kept(tmp_path / "file" / "order", every=16)
    assert take(0, 40, kept).shape == (40, ORDER.length)
