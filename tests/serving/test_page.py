"""The page by a person's path in Chromium: choose, read, slide, drop; and nobody is left out."""

import base64
import json
import re

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi")

from dr_tfx.serving import page, page_words
from tests.helpers import browsing
from tests.helpers.drawn import draw, encode
from tests.serving.conftest import KEY

PHONE, DESK = 390, 1280
_DROP = """
const files = new DataTransfer();
for (const [name, data] of arguments[0]) {
  files.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
}
document.getElementById('drop').dispatchEvent(
  new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true}));
"""


def emulate(browser, *, theme, width):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def answered(browser, count):
    from selenium.webdriver.support.ui import WebDriverWait

    done = "return document.querySelectorAll('#readings > li:not([aria-busy])').length"
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(done) == count)
    return browser.find_elements("css selector", "#readings > li")


def drop(browser, *files):
    told = [[name, base64.b64encode(data).decode()] for name, data in files]
    browser.execute_script(_DROP, told)


def style(browser, item, selector, name):
    script = "return getComputedStyle(arguments[0].querySelector(arguments[1]))[arguments[2]]"
    return browser.execute_script(script, item, selector, name)


def slide(browser, item, selector, value):
    slider = item.find_element("css selector", selector)
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        *(slider, value),
    )


def test_the_eyes_of_a_patient_stand_together_whatever_comes_between(browser, server):
    eye = draw(1)
    red, blue = (cv2.imencode(".png", pixels)[1].tobytes() for pixels in (eye, eye[..., ::-1]))
    browser.get(f"{server.address}/?lang=en")
    browser.find_element("id", "key").send_keys(KEY)
    drop(browser, ("7_left.png", red), ("8_left.png", red), ("7_right.png", blue))
    items = answered(browser, 3)
    titles = [item.find_element("css selector", "h3").text for item in items]
    places = sorted(i for i, title in enumerate(titles) if title.startswith("7_"))
    assert places[1] - places[0] == 1
    told = "Patient 7: 2 photographs here, 1 of them suspected"
    lines = [item.find_element("css selector", ".patient").text for item in items]
    assert lines == [told if title.startswith("7_") else "" for title in titles]


def test_a_person_reads_photographs(browser, server, tmp_path):
    """Also on a phone, in Korean, in the dark; nothing is fetched from elsewhere."""
    browser.get_log("browser"), browser.get_log("performance")  # Of pages before.
    emulate(browser, theme="light", width=DESK)
    browser.get(f"{server.address}/?lang=en")
    eye = encode(draw(1))
    (tmp_path / "my eye.jpeg").write_bytes(eye)
    browser.find_element("id", "files").send_keys(str(tmp_path / "my eye.jpeg"))
    (item,) = answered(browser, 1)
    assert "The key is missing or wrong." in item.text
    browser.find_element("id", "clear").click()
    browser.find_element("id", "key").send_keys(KEY)
    browser.find_element("id", "files").send_keys(str(tmp_path / "my eye.jpeg"))
    (item,) = answered(browser, 1)
    (told,) = server.predict(("my eye.jpeg", eye)).json["photographs"]
    assert told["answer"]["decision"] == "positive" and told["suspected"] is True
    share = told["answer"]["probability"]
    assert told["probabilities"] == pytest.approx({"negative": 1 - share, "positive": share})
    words = item.text.split("\n")
    assert words[0] == "my eye.jpeg" and words[1] == "! Suspected positive"
    assert [f"{100 * p:.1f} %" in words for p in (share, 1 - share)] == [True, True]

    assert style(browser, item, ".map", "opacity") == "0.6"
    slide(browser, item, ".opacity", 25)
    assert style(browser, item, ".map", "opacity") == "0.25"
    slide(browser, item, ".zoom", 200)
    assert float(style(browser, item, ".layers", "width")[:-2]) == pytest.approx(
        2 * float(style(browser, item, ".stage", "width")[:-2]), abs=2
    )
    buttons = item.find_elements("css selector", ".views button")
    seen = []
    for button in buttons:
        button.click()
        shown = [style(browser, item, image, "visibility") for image in (".photograph", ".map")]
        seen.append((button.get_attribute("aria-pressed"), *shown))
    assert seen == [
        ("true", "visible", "hidden"),
        ("true", "visible", "visible"),
        ("true", "hidden", "visible"),
    ]
    given = cv2.imdecode(np.frombuffer(eye, np.uint8), 1)
    sizes = "return [...arguments[0].querySelectorAll('img')].map(i => [i.naturalWidth, i.alt])"
    views = {
        "Original": given.shape[1],
        "As the model sees it": 32,
    }  # The file, or what it becomes.
    for button, (name, width) in zip(buttons, views.items(), strict=False):
        button.click()
        expected = [[width, f"{name}: my eye.jpeg"], [32, "Heat map: my eye.jpeg"]]
        browser.execute_script(
            "return Promise.all([...arguments[0].querySelectorAll('img')].map(i => i.decode()))",
            item,
        )
        assert browser.execute_script(sizes, item) == expected

    blue = given[..., ::-1].copy()
    black = np.zeros((90, 90, 3), np.uint8)
    # No browser reads a TIFF.
    tiff = ("eye.tiff", cv2.imencode(".tiff", given)[1].tobytes())
    files = [
        (name, cv2.imencode(".png", a)[1].tobytes()) for name, a in (("2", blue), ("3", black))
    ]
    drop(browser, *files, ("<img src=x>", b"no image"), tiff)
    texts = [item.text for item in answered(browser, 5)[1:]]
    assert "Original" not in texts[3] and "As the model sees it" in texts[3]
    assert "✓ Nothing suspected negative" in texts[0]
    assert "Not read" in texts[1] and "The photograph is black. (ungradable:black" in texts[1]
    assert texts[2].startswith("<img src=x>") and "not an image of a known format" in texts[2]

    for theme in ("light", "dark"):
        emulate(browser, theme=theme, width=PHONE)
        assert browsing.barriers(browser) == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (min(map(int, re.findall(r"\d+", colour))) > 200) == (theme == "light")
    browser.find_element("link text", "한국어").click()
    assert browser.find_element("tag name", "h1").text == page_words.LANGUAGES["ko"]["title"]

    told = [row for row in browser.get_log("browser") if row["level"] == "SEVERE"]
    errors = [row for row in told if row["source"] != "network"]
    assert errors == []  # The network's are the statuses of what was refused.
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = {r["request"]["url"] for r in sent if r["documentURL"].startswith(server.address)}
    assert f"{server.address}/v1/predict?heatmap=true" in urls
    here = (f"{server.address}/", f"blob:{server.address}/")
    assert {u for u in urls if not u.startswith((*here, "data:"))} == set()


def test_every_language_has_every_word_and_the_script_uses_no_other():
    english, *others = page_words.LANGUAGES.values()
    assert all(other.keys() == english.keys() for other in others)
    used = set(re.findall(r"words\.(\w+)", page.text_of("js")))
    assert len(used) > 8 and used <= english.keys()


def test_the_language_is_the_one_asked_for_or_the_browsers():
    assert page.language_of("ko", "en") == "ko"
    assert page.language_of("", "ko-KR,ko;q=0.9,en;q=0.8") == "ko"
    assert page.language_of("fr", "de, en-GB;q=0.5, ko;q=0.2") == "en"
    assert page.language_of("", "") == page.language_of("", "fr") == "en"


def test_the_page_and_its_files_need_no_key_and_name_no_other_address(server):
    for path, kind in (("/", "text/html"), ("/clinic.css", "text/css"), ("/clinic.js", "text/jav")):
        answer = server.get(path, Authorization=None)
        assert answer.status == 200 and answer.headers["content-type"].startswith(kind)
        text = answer.content.decode()
        assert not re.search(r"https?://|@import|<style|<script>|\son\w+=|\sstyle=", text)
    assert server.get("/clinic.py").status == server.get("/clinic.html.j2").status == 404
    assert 'lang="ko"' in server.get("/", Accept_Language="ko").content.decode()[:40]
