"""What is bounded, shared and finished: the parts of the server, with models that are watched."""

import asyncio
import dataclasses
import threading

import numpy as np
import pytest

pytest.importorskip("fastapi")

from dr_tfx.inference import photographs
from dr_tfx.serving import limits, served_model, server, service, uploads
from tests.helpers.drawn import draw, encode
from tests.helpers.enhanced import Frame, enhanced_ct
from tests.helpers.slices import dicom_slice, series_of, units


@pytest.fixture(scope="module")
def eye():
    return uploads.Upload("eye", encode(draw(1)))


class Watched:
    """A served model whose batches are noted, and that reads only while it is let."""

    def __init__(self, export):
        model = served_model.load_export(export)
        self.sizes, self.open, self.entered = [], threading.Event(), threading.Event()
        self._read = model.read
        self.model = dataclasses.replace(model, read=self.read, explain=None)

    def read(self, rgb: np.ndarray):
        self.entered.set()
        assert self.open.wait(20)
        self.sizes.append(len(rgb))
        return self._read(rgb)

    def service(self, **bounds) -> service.Service:
        return service.Service(lambda: self.model, limits.Limits(**bounds))


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come true")


def test_what_waits_goes_together_and_more_than_the_queue_is_refused(export, eye):
    watched = Watched(export)
    served = watched.service(queue=12, photographs=12)

    async def run():
        first = asyncio.create_task(served.read([eye], heatmaps=False))
        await until(watched.entered.is_set)
        others = [asyncio.create_task(served.read([eye], heatmaps=False)) for _ in range(11)]
        await until(lambda: len(served.batcher._jobs) == 11)
        with pytest.raises(limits.Refused, match="12 photographs are in work") as refused:
            await served.read([eye], heatmaps=False)
        assert refused.value.status == 429 and refused.value.after >= 1
        others[3].cancel()  # A client that waits no longer: its picture is not read.
        await until(others[3].done)
        watched.open.set()
        for task in (first, *others[:3], *others[4:]):
            _, (answer,), status = await task
            assert status == 200 and answer.answer["decision"] == "positive"

    asyncio.run(run())
    served.close()
    assert watched.sizes == [1, 8, 2]  # Powers of two of the ten that are left; 8 at most.
    assert served.admission.photographs == 0 and not served.batcher.is_alive


def test_neighbours_are_looked_for_among_the_slices_of_one_request(export):
    pytest.importorskip("pydicom")
    watched = Watched(export)
    watched.open.set()
    seen, model = [], watched.model
    beside = {"name": "ct_neighbours", "windows": ((50, 100),), "quality_gate": "off"}
    recipe = dataclasses.replace(model.recipe, **beside)
    dataset = dataclasses.replace(model.experiment.dataset, recipe=recipe)
    experiment = dataclasses.replace(model.experiment, dataset=dataset)

    def read(rgb):
        seen.extend(rgb)
        return model.read(rgb)

    watched.model = dataclasses.replace(model, experiment=experiment, read=read)
    served = watched.service()
    files = [*series_of("1.1", (10, 0, 5)).values(), *series_of("1.2", (0, 5), seed=9).values()]
    for some in (files[:4], files[2:]):
        seen.clear()
        asked = served.read([uploads.Upload("", one) for one in some], heatmaps=False)
        assert asyncio.run(asked)[2] == 200
        expected = [
            one.picture.rgb for one, _ in photographs.in_batches(some, recipe, 9, work=list)
        ]
        assert sorted(one.tobytes() for one in seen) == sorted(one.tobytes() for one in expected)
    served.close()


def test_each_frame_of_a_file_is_answered(export, eye):
    """As a photograph of its own, between its neighbours; a damaged one costs no other."""
    pytest.importorskip("pydicom")
    watched = Watched(export)
    watched.open.set()
    model, seen = watched.model, []
    beside = {"name": "ct_neighbours", "windows": ((50, 100),), "quality_gate": "off"}
    recipe = dataclasses.replace(model.recipe, **beside)
    dataset = dataclasses.replace(
        model.experiment.dataset, recipe=recipe, patient_pattern=r"^(\d+)_"
    )
    experiment = dataclasses.replace(model.experiment, dataset=dataset)

    def read(rgb):
        seen.extend(rgb)
        return model.read(rgb)

    watched.model = dataclasses.replace(model, experiment=experiment, read=read)
    served = watched.service(photographs=5)
    slices = [
        Frame((units(i) + 1024).astype(np.uint16), height) for i, height in enumerate((5, 0, 9))
    ]
    whole = enhanced_ct(slices)
    files = [eye, uploads.Upload("7_head", whole[: -slices[0].stored.nbytes // 2])]
    _, told, status = asyncio.run(served.read(files, heatmaps=False))
    names = ["eye", *(f"7_head/frame_000{i}" for i in (1, 2, 3))]
    assert status == 200 and [one.name for one in told] == names
    assert [(one.file, one.patient) for one in told] == [(0, None)] + 3 * [(1, "7")]
    assert [one.rejected.reason for one in told if one.rejected] == ["unreadable"]
    assert told[3].rejected is not None
    alone = [dicom_slice(units(i), "1.2", height=height) for i, height in enumerate((5, 0))]
    expected = [one.picture.rgb for one, _ in photographs.in_batches(alone, recipe, 9, work=list)]
    found = {one.tobytes() for one in seen}
    assert len(seen) == 3 and found > {one.tobytes() for one in expected}
    with pytest.raises(limits.Refused, match="has 6 photographs, as each frame") as refused:
        asyncio.run(served.read([uploads.Upload("", whole)] * 2, heatmaps=False))
    assert refused.value.status == 413
    # Of another recipe, a file is one photograph.
    watched.model = model
    served.reload()
    _, told, _ = asyncio.run(served.read([uploads.Upload("a.dcm", whole)], heatmaps=False))
    assert [one.name for one in told] == ["a.dcm"]
    served.close()


def test_a_model_that_fails_is_told_and_the_next_batch_is_read(export, eye):
    watched = Watched(export)
    watched.open.set()
    served = watched.service()
    good = watched.model
    served._model = dataclasses.replace(good, read=lambda rgb: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(served.read([eye], heatmaps=False))
    served._model = good
    assert asyncio.run(served.read([eye], heatmaps=False))[2] == 200
    with pytest.raises(limits.Refused, match="draws no heat maps"):
        asyncio.run(served.read([eye], heatmaps=True))
    served.close()


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(export, caplog):
    loaded = [served_model.load_export(export)]
    served = service.Service(lambda: loaded.pop(), limits.Limits())
    served._load = lambda: served_model.load_export(export / "data")
    old = served.model
    served.reload()
    assert served.model is old and "the model stays as it was" in caplog.text
    served.close()


def test_bytes_are_bounded_over_all_requests():
    admission = limits.Admission(limits.Limits(megabytes=1))
    with admission.held(15_000_000, seconds_each=0.1), admission.held(10**6, seconds_each=0.1):
        with pytest.raises(limits.Refused) as refused, admission.held(1, seconds_each=0.1):
            pass
        assert refused.value.status == 429
    assert admission.bytes == 0


def test_the_rate_of_each_client_is_its_own():
    rate = limits.Rate(3)
    for second in (0, 0, 0):
        rate.check("a", second)
    with pytest.raises(limits.Refused) as refused:
        rate.check("a", 5)
    assert refused.value.status == 429 and refused.value.after == 15
    rate.check("b", 5)
    rate.check("a", 21)  # One more every 20 s.
    with pytest.raises(limits.Refused):
        rate.check("a", 22)


@pytest.mark.parametrize(
    "key, host, words",
    [
        ("", "0.0.0.0", "can be reached by others, and no key is set"),
        ("", "::", "can be reached by others"),
        ("", "example.org", "can be reached by others"),
        ("short", "127.0.0.1", "has 5 characters; expected 16 or more"),
        ("a key with é, which no header has", "127.0.0.1", "of ASCII"),
    ],
)
def test_an_address_of_others_needs_a_good_key(key, host, words):
    with pytest.raises(ValueError, match=words):
        server.check_key(key, host)


def test_this_machine_needs_no_key():
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        server.check_key("", host)
        assert host in server.own_names(host)
    server.check_key("0123456789abcdef", "0.0.0.0")
    assert server.own_names("0.0.0.0") == ()
