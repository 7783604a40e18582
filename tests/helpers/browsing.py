"""What every page promises, as a headless Chromium sees it."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

PHONE = 390
WIDE = 1200
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
_AXE = (
    "axe.run(document, {runOnly: arguments[0], resultTypes: ['violations']})"
    ".then(r => arguments[1](r.violations))"
)


def barriers(browser, *, colours_alone: bool = False) -> list:
    """Return what axe-core finds on the page that is shown that keeps somebody out."""
    axe = importlib.util.find_spec("axe_core_python")
    if axe is None or axe.origin is None:
        pytest.skip("axe-core-python is not installed")
    browser.execute_script(Path(axe.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    return browser.execute_async_script(_AXE, _COLOURS if colours_alone else _RULES)


def check_page(browser, page: Path, *, pictures: int) -> None:
    """Light and dark, on a phone: nothing fails, is fetched, is too wide or keeps anybody out.

    On a wide screen, figures stand beside one another.

    Args:
      browser: the fixture.
      page: an HTML file.
      pictures: how many it has; each has words, size attributes, and is really drawn.
    """
    browser.get_log("browser"), browser.get_log("performance")  # Of pages before.
    _emulate(browser, theme="light", width=WIDE)
    browser.get(page.as_uri())
    assert browser.execute_script(
        "return [...document.querySelectorAll('.figures')].map(f => [...f.children])"
        ".every(([a, b]) => !b || b.offsetTop < a.offsetTop + a.offsetHeight / 2)"
    )
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
        assert barriers(browser, colours_alone=theme == "dark") == []
    assert browser.get_log("browser") == []
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # Only what this page asks for: the browser's own start page has requests as well.
    requests = [r["request"]["url"] for r in requests if r["documentURL"] == page.as_uri()]
    assert page.as_uri() in requests
    assert {u for u in requests if u != page.as_uri() and not u.startswith("data:")} == set()
    assert not re.search(r"https?://|<script", page.read_text())


def _emulate(browser, *, theme: str, width: int = PHONE) -> None:
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
