"""The page of heat maps as a browser sees it, with as many rows as EyePACS has photographs."""

import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from beam_jobs.explain import mask_measures, page, worker
from tests.explain.test_photographs import table
from tests.helpers import datasets

ROWS = 35_000
EXPERIMENT = datasets.experiment()  # Labels a, b, c; the last two are positive.


def index(rows):
    """Ids in order; label and score of row i are i % 3 and i % 1000 / 1000."""
    i = np.arange(rows)
    return pd.DataFrame(
        {
            "id": [f"eye {n:05d}" for n in i],
            "label": pd.array(i % 3, "Int64"),
            "target": pd.array(np.minimum(i % 3, 1), "Int64"),
            "score": i % 1000 / 1000,
            "decision": np.where(i % 1000 >= 500, "positive", "negative"),
            "shard": [f"shard-{n // 512}" for n in i],
            "outside": (i % 5000 == 4999).astype(int),
        }
    )


def render(rows, *, is_raw=False, rejects=(), **changes):
    settings = worker.Settings(
        workdir="run",
        version="",
        methods=("gradcam",),
        overlays="full",
        average_views=False,
        colormap="jet",
        masks=changes.pop("masks", None),
        threads=1,
    )
    return page.render(
        rows,
        pd.DataFrame(rejects, columns=["id", "reason", "detail"]),
        title="<photographs>",
        experiment=EXPERIMENT,
        threshold=0.5,
        method="Grad-CAM",
        settings=settings,
        is_raw=is_raw,
        **{"measures": None, "alarms": [], "notices": []} | changes,
    )


@pytest.fixture
def written(tmp_path):
    """35,000 rows, and overlays of the first hundred."""
    measures = mask_measures.summarise(
        table(hit=0.75, hit_other=0.25, energy=0.2, insertion=0.6, deletion=0.4), ["a", "b", "c"]
    )
    html = render(
        index(ROWS),
        measures=measures,
        masks=mask_measures.Masks(tmp_path, ("EX", "MA")),
        rejects=[("<b>dark</b>", "ungradable:black", "brightness 3")],
    )
    for i in range(100):
        path = tmp_path / "overlays" / "shard-0" / f"eye {i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((32, 32, 3), i, np.uint8))
    cv2.imwrite(str(tmp_path / "gradcam_final.png"), np.zeros((64, 48, 3), np.uint8))
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    return tmp_path / "index.html"


def shown(browser):
    return [b.text for b in browser.find_elements("css selector", "#shown li b")]


def choose(browser, field, value):
    browser.execute_script(
        "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}))",
        *(field, value),
    )


def emulate(browser, *, theme, width):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_the_page_finds_photographs(browser, written):
    browser.get_log("performance")
    emulate(browser, theme="dark", width=390)
    browser.get(written.as_uri())
    where = browser.find_element("id", "where")
    assert where.text == "1 to 24 of 35,000" and shown(browser)[0] == "eye 00000"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.find_element("id", "next").click()
    assert where.text == "25 to 48 of 35,000" and shown(browser)[0] == "eye 00024"
    choose(browser, "result", "outside")
    assert shown(browser) == [f"eye {i:05d}" for i in range(4999, ROWS, 5000)]
    assert "highest place outside the retina" in browser.find_element("id", "shown").text
    choose(browser, "result", "all")
    choose(browser, "order", "up")
    assert shown(browser)[0] == "eye 00999"
    choose(browser, "order", "name")
    choose(browser, "result", "missed")  # Positive below the threshold: the first is row 1.
    assert shown(browser)[:3] == ["eye 00001", "eye 00002", "eye 00004"]
    choose(browser, "low", "0.49")  # Rows 490 to 499 of every thousand.
    assert shown(browser)[0] == "eye 00490"
    browser.find_element("css selector", "#grades input[value='1']").click()
    wanted = [i for i in range(ROWS) if i % 3 == 2 and 490 <= i % 1000 < 500]
    assert where.text == f"1 to 24 of {len(wanted)}"
    assert shown(browser) == [f"eye {i:05d}" for i in wanted[:24]]
    choose(browser, "name", "no such name")
    assert where.text == "No photograph is like that." and shown(browser) == []
    said = [row["message"] for row in browser.get_log("browser")]
    assert all(".png - Failed to load" in message for message in said)  # Only a hundred are there.
    for theme, width in (("light", 1280), ("light", 390)):
        emulate(browser, theme=theme, width=width)
        browser.get(written.as_uri())
        pictures = browser.execute_script(
            "const all = [...document.images]; all.forEach(i => i.loading = 'eager');"
            "return Promise.all(all.map(i => i.decode())).then(() => all.map(i => [i.alt, "
            "i.naturalWidth, i.getBoundingClientRect().width]))"
        )
        assert len(pictures) == 25 and all(alt and min(sizes) > 0 for alt, *sizes in pictures)
        assert pictures[3][0] == "Heat map over eye 00003: a, score 0.003, negative"
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = {r["request"]["url"] for r in requests if r["documentURL"] == written.as_uri()}
    assert len(urls) < 150 and all(url.startswith(("file://", "data:")) for url in urls)


def test_the_page_is_self_contained_and_escapes_what_data_says(written):
    html = written.read_text(encoding="utf-8")
    assert "&lt;photographs&gt;" in html and "&lt;b&gt;dark&lt;/b&gt;" in html
    assert not re.search(r"https?://|<link rel=.stylesheet|<script src|@import", html)
    assert len(html) < 2e6
    assert "The maps point at lesions" in html and "(EX, MA)" in html
    assert "In 7 of 35,000 photographs the highest place of the map is outside" in html
    rows = index(2)
    rows["id"] = ["</script><script>alert(1)</script>", "é"]
    html = render(rows, is_raw=True)
    assert "<script>alert" not in html
    text = re.search(r'<script id="data" type="application/json">(.*?)</script>', html)[1]
    data = json.loads(text)
    assert data["id"] == rows["id"].tolist() and data["thumbnails"] == "thumbnails"
    unknown = render(rows.assign(label=pd.NA, target=pd.NA))
    assert "missed" not in re.sub(r"<script.*", "", unknown, flags=re.DOTALL)


def test_small_shares_have_two_figures_and_as_many_beside_them(tmp_path):
    shares = table(hit=0.75, hit_other=0.25, energy=0.00123, insertion=0.6, deletion=0.4)
    shares = shares.assign(area=0.00045, energy_other=0.0201)
    measures = mask_measures.summarise(shares, ["a", "b", "c"])
    html = render(index(3), measures=measures, masks=mask_measures.Masks(tmp_path, ("MA",)))
    text = re.sub(r"<[^>]*>|\s", " ", html).replace("\u00a0", " ")
    said = " ".join(text.split())
    assert "0.123 % 0.123–0.123 their area 0.045 % another’s 2.010 %" in said
    assert "75.0 %" in said


def test_a_table_that_is_wider_than_the_page_shows_that_it_scrolls(browser, written):
    emulate(browser, theme="light", width=390)
    browser.get(written.as_uri())
    table, scrolled = "document.querySelector('.measures').parentElement", []
    assert browser.execute_script(f"return {table}.scrollWidth > {table}.clientWidth + 20")
    for where in ("0", f"{table}.scrollWidth"):  # The shadow lies at the edge that hides something.
        browser.execute_script(f"{table}.scrollIntoView(); {table}.scrollLeft = {where}")
        box = browser.execute_script(
            f"const b = {table}.getBoundingClientRect(); return [b.left, b.top, b.right]"
        )
        shot = cv2.imdecode(np.frombuffer(browser.get_screenshot_as_png(), np.uint8), 0)
        row = shot[int(box[1]) + 4]
        scrolled.append((row[int(box[0]) + 1], row[int(box[2]) - 2]))
    (_, right), (_, end) = scrolled
    assert right < 235 and end > 250
    first = browser.execute_script(
        "return document.querySelector('.measures th').getBoundingClientRect().left"
    )
    assert first == box[0]  # What a row is about stays in sight.
