"""What all threads of a process take of one share of memory."""

import concurrent.futures
import threading

from dr_tfx.machine import budget


def test_no_more_is_taken_than_there_is_and_all_get_their_turn():
    shared, lock, held, most = budget.Budget(10), threading.Lock(), [0], [0]

    def work(size):
        with shared.taken(size):
            with lock:
                held[0] += min(size, 10)
                most[0] = max(most[0], held[0])
            threading.Event().wait(0.001)
            with lock:
                held[0] -= min(size, 10)
        return size

    sizes = [3, 4, 10, 1, 7, 99, 0, 5] * 4  # One of 99 has all there is.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, sizes)) == sizes
    assert held == [0] and 7 <= most[0] <= 10
