"""What a server reads is counted by day beside validation: its page, and its figures."""

import asyncio
import base64
import datetime

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi")

from dr_tfx.inference import drift as watching
from dr_tfx.inference import exported, photographs
from dr_tfx.serving import days, limits, metrics, page, served_model, service, uploads
from dr_tfx.statistics import drift
from tests.helpers import exports
from tests.helpers.drawn import draw, encode
from tests.serving.conftest import KEY

TODAY = datetime.date(2026, 3, 5)


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    """An export that knows pictures of many colours."""
    folder = exports.write(tmp_path_factory.mktemp("export"), gate="reject")
    return exports.know(folder, exports.reference(range(60)))


def test_the_page_needs_the_key_as_a_password_and_says_why_nothing_is_told(server):
    refused = server.get("/drift", Authorization=None)
    assert refused.status == 401 and refused.headers["www-authenticate"].startswith("Basic ")
    for told, status in ((f"anybody:{KEY}", 200), ("anybody:wrong", 401), (KEY, 401)):
        basic = f"Basic {base64.b64encode(told.encode()).decode()}"
        assert server.get("/drift", Authorization=basic).status == status
        assert server.get("/metrics", Authorization=basic).status == 401
    assert server.get("/drift", Authorization="Basic é").status == 401
    shown = server.get("/drift?lang=en")
    assert "Drift cannot be told: validation has 0 patients" in shown.content.decode()
    assert shown.headers["content-security-policy"].startswith("default-src 'none'; style-src 'un")
    assert "드리프트를 알 수 없습니다" in server.get("/drift?lang=ko").content.decode()
    assert 'href="drift?lang=en"' in server.get("/?lang=en").content.decode()
    assert b"drtfx_drift" not in server.get("/metrics").content


def test_the_server_counts_what_the_command_counts(knowing):
    """The drawn eyes are others than the pictures of many colours."""
    eyes = [uploads.Upload(f"{n}", encode(draw(n))) for n in range(35)]
    black = uploads.Upload(
        "black", cv2.imencode(".png", np.zeros((90, 90, 3), np.uint8))[1].tobytes()
    )
    figures = metrics.Metrics()
    served = service.Service(
        lambda: served_model.load_export(knowing), limits.Limits(photographs=40)
    )
    asyncio.run(served.read([*eyes, black, uploads.Upload("broken", b"x")], heatmaps=False))
    asyncio.run(served.read(eyes[:1], heatmaps=True))
    counted = served.days.counted()
    assert counted[datetime.date.today()].verdicts == {"black": 1}
    model = exported.load(knowing)
    watch = watching.Watch(model.reference)
    read = photographs.PhotographReader(model)([one.data for one in [*eyes, eyes[0]]])
    expected = sum(watch.row(one.picture.rgb, one.reading) for one in read)
    np.testing.assert_allclose(counted[None].sums, expected, rtol=1e-6)

    text = figures.text(served).decode()
    assert 'drtfx_drift_alarm{comparison="pictures",day="today"} 1.0' in text
    assert 'drtfx_drift_photographs{day="today"} 36.0' in text
    lines = [line for line in text.splitlines() if line.startswith("drtfx_score_photographs_total")]
    assert sum(float(line.split()[-1]) for line in lines) == 36
    html = page.drift_html(served.model, served.days, language="en")
    assert "The pictures themselves are others than those of validation" in html
    assert "Distribution of score" in html and "since the start" in html
    html = page.drift_html(served.model, served.days, language="ko")
    assert "영상 자체가 검증의 것과 다르며" in html and "since the start" not in html

    before = served.days
    served.reload()  # Of the same model, which goes on.
    asyncio.run(served.read(eyes[:1], heatmaps=False))
    assert served.days is before and served.days.counted()[None].photographs == 37
    served.close()


def test_days_are_kept_for_two_weeks(monkeypatch):
    class Clock(datetime.date):
        @classmethod
        def today(cls):
            return now

    monkeypatch.setattr(days.datetime, "date", Clock)
    kept = days.Days(exports.reference(range(40)))
    for passed in range(20):
        now = TODAY + datetime.timedelta(days=passed)
        kept.refused("ungradable:black: brightness 1")
        kept.refused("unreadable: no image")
    now += datetime.timedelta(days=1)
    counted = kept.counted()
    assert list(counted) == [now, *(now - datetime.timedelta(days=n) for n in range(1, 15)), None]
    assert [one.refused for one in counted.values()] == [0, *[1] * 14, 20]
    told = watching.told(drift.judge(kept.watch.reference, counted[now]))
    assert told[0] == "note" and "0 were read" in told[1]
