"""The page of heat maps as a browser sees it, with as many rows as EyePACS has photographs."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from beam_jobs.explain import mask_measures, page, plan, results, worker
from dr_tfx import tasks
from dr_tfx.preprocessing import mask_files
from tests.explain.test_mask_measures import table
from tests.helpers import browsing, datasets

ROWS = 35_000
BINARY = tasks.of(datasets.experiment())  # Labels a, b, c; the last two are positive.


def index(rows):
    """Ids in order; label and score of row i are i % 3 and i % 1000 / 1000, the threshold 0.5."""
    i = np.arange(rows)
    score, target = i % 1000 / 1000, np.minimum(i % 3, 1)
    return pd.DataFrame(
        {
            "id": [f"eye {n:05d}" for n in i],
            "label": pd.array(i % 3, "Int64"),
            "target": pd.array(target, "Int64"),
            "score": score,
            "decision": np.where(i % 1000 >= 500, "positive", "negative"),
            "shard": [f"shard-{n // 512}" for n in i],
            "outside": (i % 5000 == 4999).astype(int),
            "wrongness": np.where(target == 1, 0.5 - score, score - 0.5),
        }
    )


def render(rows, *, kind=BINARY, is_raw=False, rejects=(), masks=None, measures=None):
    settings = worker.ExplainSettings(
        workdir="run",
        version="",
        methods=("gradcam",),
        overlays="full",
        average_views=False,
        colormap="jet",
        masks=masks,
        threads=1,
    )
    planned = plan.ExplainPlan(
        settings=settings,
        inputs=SimpleNamespace(is_raw=is_raw),
        parts=(),
        training=None,
        title="<photographs>",
        model="<backbone>",
        notices=(),
        source={},
        output_dir=Path("out"),
    )
    joined = results.ExplainResults(
        index=rows,
        rejects=pd.DataFrame(rejects, columns=["id", "reason", "detail"]),
        kind=kind,
        rule="The decision is 'positive' from a score of 0.500 up.",
        method="Grad-CAM",
        measures=measures,
        alarms=[],
        notices=[],
    )
    return page.render(planned, joined)


def page_data(html):
    return json.loads(
        re.search(r'<script id="data" type="application/json">(.*?)</script>', html)[1]
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
        masks=mask_files.MaskFolder(str(tmp_path), {"EX": {}, "MA": {}}),
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
    assert "highest place outside the lit field" in browser.find_element("id", "shown").text
    choose(browser, "result", "all")
    choose(browser, "order", "highest")
    assert shown(browser)[0] == "eye 00999"
    choose(browser, "order", "wrong")  # A positive one with the score 0: the first is row 1000.
    assert shown(browser)[0] == "eye 01000"
    choose(browser, "order", "name")
    choose(browser, "result", "is 1")  # From the threshold up.
    assert shown(browser)[0] == "eye 00500"
    choose(browser, "result", "correct")
    assert shown(browser)[:2] == ["eye 00000", "eye 00003"]
    choose(browser, "result", "wrong 1")  # Positive below the threshold: the first is row 1.
    assert shown(browser)[:3] == ["eye 00001", "eye 00002", "eye 00004"]
    choose(browser, "low", "0.49")  # Rows 490 to 499 of every thousand.
    assert shown(browser)[0] == "eye 00490"
    browser.find_element("css selector", "#labels input[value='1']").click()
    wanted = [i for i in range(ROWS) if i % 3 == 2 and 490 <= i % 1000 < 500]
    assert where.text == f"1 to 24 of {len(wanted)}"
    assert shown(browser) == [f"eye {i:05d}" for i in wanted[:24]]
    choose(browser, "many", "480")
    assert where.text == f"1 to {len(wanted)} of {len(wanted)}" and len(wanted) < 480
    choose(browser, "many", "24")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")  # Paper has no next page.
    assert shown(browser) == [f"eye {i:05d}" for i in wanted]
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert where.text == f"1 to 24 of {len(wanted)}" and len(shown(browser)) == 24
    choose(browser, "name", "no such name")
    assert where.text == "No photograph matches." and shown(browser) == []
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
    assert browsing.barriers(browser) == []
    assert browser.get_log("browser") == []
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = {r["request"]["url"] for r in requests if r["documentURL"] == written.as_uri()}
    assert len(urls) < 150 and all(url.startswith(("file://", "data:")) for url in urls)


def pressed(browser, keys):
    """The photograph's name after some keys, and the opacity of its heat map."""
    browser.switch_to.active_element.send_keys(keys)
    return browser.execute_script(
        "return [document.getElementById('viewer-name').textContent,"
        " +document.getElementById('overlay').style.opacity]"
    )


def scale(browser):
    style = "return getComputedStyle(document.getElementById('layers')).transform"
    return float(re.match(r"matrix\(([\d.]+)", browser.execute_script(style))[1])


def test_photographs_are_looked_at_at_full_resolution(browser, tmp_path):
    """Six photographs of three patients, of 300 by 200 pixels; the last one is not there."""
    spec = dataclasses.replace(BINARY.experiment.dataset, patient_pattern=r"^(\d+)_")
    rows = index(6).assign(id=[f"{n // 2}_{'lr'[n % 2]}" for n in range(6)])
    rows["shard"], eyes = "shard", [*rows["id"][:5]]
    kind = tasks.of(dataclasses.replace(BINARY.experiment, dataset=spec))
    for folder, ending in (("overlays", "png"), ("photographs", "jpg")):
        (tmp_path / folder / "shard").mkdir(parents=True)
        for name in eyes:
            path = tmp_path / folder / "shard" / f"{name}.{ending}"
            cv2.imwrite(str(path), np.full((200, 300, 3), 90, np.uint8))
    (tmp_path / "index.html").write_text(render(rows, kind=kind), encoding="utf-8")
    address = (tmp_path / "index.html").as_uri()
    emulate(browser, theme="dark", width=390)
    browser.get(address)
    assert browser.find_element("id", "eyes").is_displayed()
    browser.find_element("css selector", "#shown a").click()
    assert pressed(browser, "") == ["0_l", 1]
    loaded = "return [...document.querySelectorAll('#layers img')].map(i => i.naturalWidth)"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 5).until(lambda b: b.execute_script(loaded) == [300, 300])
    fits = scale(browser)
    assert fits == pytest.approx((390 - 16) / 300, abs=0.02)
    assert browsing.barriers(browser) == []
    assert pressed(browser, "\ue013") == ["0_l", 1]  # Up: it is full already.
    assert pressed(browser, "\ue015") == ["0_l", 0.9]  # Down.
    assert pressed(browser, " ") == ["0_l", 0] and pressed(browser, " ") == ["0_l", 0.9]
    pressed(browser, "+")
    assert scale(browser) == pytest.approx(1.5 * fits, abs=0.001)
    assert pressed(browser, "\ue014\ue014") == ["1_l", 0.9]  # Right, twice; the place stays.
    assert scale(browser) == pytest.approx(1.5 * fits, abs=0.001)
    pressed(browser, "0")
    assert scale(browser) == pytest.approx(fits, abs=0.001)
    strip = browser.find_elements("css selector", "#strip button")  # Those of the same patient.
    assert [b.get_attribute("aria-current") for b in strip] == ["true", "false"]
    strip[1].click()
    assert pressed(browser, "") == ["1_r", 0.9]
    assert [b.get_attribute("aria-current") for b in strip] == ["false", "true"]
    assert browser.current_url == f"{address}#open=1_r"
    pressed(browser, "\ue00c")  # Escape.
    assert not browser.find_element("id", "viewer").is_displayed()

    choose(browser, "eye", "right")
    choose(browser, "order", "highest")
    assert shown(browser) == ["2_r", "1_r", "0_r"]
    kept = browser.current_url
    assert kept == f"{address}#eye=right&order=highest"
    browser.get("about:blank")
    browser.get(f"{kept}&open=2_r")
    assert shown(browser) == ["2_r", "1_r", "0_r"]
    assert pressed(browser, "") == ["2_r", 1]  # Its files are not there, and nothing fails.
    assert pressed(browser, "\ue014") == ["1_r", 1]


def test_the_page_is_self_contained_and_escapes_what_data_says(written):
    html = written.read_text(encoding="utf-8")
    assert "&lt;photographs&gt;" in html and "&lt;b&gt;dark&lt;/b&gt;" in html
    assert not re.search(r"https?://|<link rel=.stylesheet|<script src|@import", html)
    assert len(html) < 2e6
    assert "The maps point at lesions" in html and "(EX, MA)" in html
    assert "In 7 of 35,000 photographs the highest place of the map is outside" in html
    rows = index(2)
    rows["id"] = ["<!--</script><script>alert(1)</script>", "é"]
    html = render(rows, is_raw=True)
    assert "<script>alert" not in html
    data = page_data(html)
    assert data["id"] == rows["id"].tolist() and data["thumbnails"] == "thumbnails"


def without_script(html):
    return re.sub(r"<script.*", "", html, flags=re.DOTALL)


def test_without_labels_nothing_is_called_correct_or_wrong():
    rows = index(3)
    assert 'value="wrong' in without_script(render(rows))
    unknown = rows.assign(label=pd.NA, target=pd.NA, wrongness=np.nan)
    assert 'value="wrong' not in without_script(render(unknown))


def test_names_are_in_natural_order():
    rows = index(4).assign(id=["10_left", "9_left", "100_left", "9_right"])
    data = page_data(render(rows))
    assert data["id"] == ["9_left", "9_right", "10_left", "100_left"]
    assert data["label"] == [1, 0, 0, 2]  # Each row as a whole.


def toy_kind(groups):
    """A kind of the given groups, one a label, that explains a number called `severity_index`."""
    return SimpleNamespace(
        experiment=BINARY.experiment,
        data=SimpleNamespace(groups=groups, group_of=(0, 1, 2)),
        scores=SimpleNamespace(
            explained="severity_index",
            gives_maps=False,
            figure_name=lambda group: f"gradcam_{group}.png",
        ),
    )


def test_three_unordered_groups_have_no_threshold_and_no_sides(browser, tmp_path):
    groups = ("cat", "dog", "owl")
    rows = index(6).rename(columns={"score": "severity_index"})
    rows = rows.assign(
        target=pd.array([0, 1, 2, 0, 1, 2], "Int64"),
        decision=["cat", "owl", "owl", "dog", "dog", "cat"],
        severity_index=[3.0, -1.5, 12.0, 0.25, 7.0, 0.5],
        wrongness=[-1.0, 2.0, -3.0, 5.0, -1.0, 4.0],
        training_split=["train", "test", "", "test", "train", "test"],
    )
    html = render(rows, kind=toy_kind(groups))
    assert "as large as the model sees it." in html and "at full size" not in html
    assert 'href="gradcam_2.png">owl<' in html and "raised the model's" in html
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    text = browser.find_element("id", "shown").text
    assert "b · severity index -1.500 · owl, wrong" in text and "12.000 · owl, correct" in text
    assert not browser.find_element("id", "eyes").is_displayed()  # No name ends with one.
    assert len(shown(browser)) == 6  # A number below 0 and one above 1 are within the limits.
    choose(browser, "result", "wrong 2")
    assert shown(browser) == ["eye 00005"]
    choose(browser, "result", "is 2")
    assert shown(browser) == ["eye 00001", "eye 00002"]
    choose(browser, "result", "wrong")
    choose(browser, "split", "test")
    assert shown(browser) == ["eye 00001", "eye 00003", "eye 00005"]
    assert "split=test" in browser.current_url
    choose(browser, "result", "all")
    choose(browser, "split", "none")
    assert shown(browser) == ["eye 00002"]
    choose(browser, "split", "")
    choose(browser, "order", "wrong")
    assert shown(browser)[:3] == ["eye 00003", "eye 00005", "eye 00001"]
    choose(browser, "low", "1")
    choose(browser, "order", "lowest")
    assert shown(browser) == ["eye 00000", "eye 00004", "eye 00002"]


def test_a_decision_that_is_no_group_is_neither_correct_nor_wrong():
    rows = index(2).rename(columns={"score": "severity_index"})
    rows = rows.assign(decision=["haemorrhages, exudates", "no lesion"])
    html = render(rows, kind=toy_kind(("cat", "dog", "owl")))
    assert not page_data(html)["judged"] and 'value="wrong' not in without_script(html)
    assert ">haemorrhages, exudates</option>" in html


def test_small_shares_have_two_figures_and_as_many_beside_them(tmp_path):
    shares = table(hit=0.75, hit_other=0.25, energy=0.00123, insertion=0.6, deletion=0.4)
    shares = shares.assign(area=0.00045, energy_other=0.0201)
    measures = mask_measures.summarise(shares, ["a", "b", "c"])
    html = render(
        index(3), measures=measures, masks=mask_files.MaskFolder(str(tmp_path), {"MA": {}})
    )
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
