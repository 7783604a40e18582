"""What every page promises, as a headless Chromium sees it."""

import json
import re
from pathlib import Path

PHONE = 390


def check_page(browser, page: Path, *, pictures: int) -> None:
    """Light and dark, on a phone: nothing fails, nothing is fetched, nothing is wider than it.

    Args:
      browser: the fixture.
      page: an HTML file.
      pictures: how many it has; each has words, size attributes, and is really drawn.
    """
    browser.get_log("browser"), browser.get_log("performance")  # Of pages before.
    for theme in ("light", "dark"):
        _emulate(browser, theme=theme)
        browser.get(page.as_uri())
        images = browser.execute_script(
            "return [...document.images].map(i => [i.alt, i.naturalWidth, i.width, i.height,"
            " +i.getAttribute('width'), +i.getAttribute('height')])"
        )
        assert len(images) == pictures
        for alt, *sizes in images:
            assert len(alt) > 10 and min(sizes) > 0, (alt, sizes)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= PHONE
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (min(map(int, re.findall(r"\d+", colour))) > 200) == (theme == "light")
    assert browser.get_log("browser") == []
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # Only what this page asks for: the browser's own start page has requests as well.
    requests = [r["request"]["url"] for r in requests if r["documentURL"] == page.as_uri()]
    assert page.as_uri() in requests
    assert {u for u in requests if u != page.as_uri() and not u.startswith("data:")} == set()
    assert not re.search(r"https?://|<script", page.read_text())


def _emulate(browser, *, theme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": PHONE, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
