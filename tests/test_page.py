"""The page in a browser: filters, keyboard, narrow screens, and what must not run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dfkd.report import page as pages
from dfkd.report.document import Grid
from dfkd.report.results import Missing, Result

pytestmark = pytest.mark.slow  # a browser takes seconds to start

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EVIL = "</script><script>document.title = 'hacked'</script><img src=x onerror=\"document.title='hacked'\">"
COST = {"parameters": 5, "multiply_adds": 1}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """An installed Chromium, without a window."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


def run(folder: Path, strategy: str, seed: int) -> Result:
    """A finished run with 80 samples of two classes at four steps."""
    folder.mkdir()
    samples = [
        {
            "step": 100 * (number // 20), "text": f"{strategy} says word{number}", "confidence": 0.5,
            "teacher_class": ("Sports", EVIL)[number % 2],
        }
        for number in range(80)
    ]
    samples[0] |= {"text": f"here it is {EVIL}", "prompt": EVIL, "reward": 0.5}
    metrics = [{"step": step, "kd": 0.5, "classes": [3, 1], "heldout_agreement": 0.5} for step in range(3)]
    for name, records in (("samples", samples), ("metrics", metrics)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    scores = {"accuracy": 0.5 + seed / 100}
    content: dict[str, Any] = {
        "run": f"a/{strategy}/{EVIL}", "steps": 3, "environment": {"cpu": EVIL}, "seconds": {"train": 1.0},
        "config": {
            "seed": seed, "data": {"name": f"data{EVIL}", "metric": "accuracy", "labels": ["Sports", EVIL]},
            "student": {"name": "truncated", "label": "a student with a long name,option=1,another_option=2"},
        },
        "strategy": {"name": strategy, "label": strategy}, "queries": {"train": 1, "heldout": 0},
        "teacher": {"sha256": "f", "scores": scores, "cost": COST},
        "student": {"scores": scores, "agreement": 0.5, "cost": COST},
    }
    return Result(folder, content)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a page of three runs, two of them with a script for a name."""
    folder = tmp_path_factory.mktemp("page")
    names = ("random_tokens", f"as_dfd{EVIL}", "real_text")
    found = [run(folder / str(seed), name, seed) for seed, name in enumerate(names)]
    for one in found:
        one.content["test_items"] = 16
        one.content["student"]["correct"] = "ff0f"
    gone = Missing(EVIL, f"failed: {EVIL}", f"data{EVIL}", "another student", "cmi")
    claims = [
        SimpleNamespace(claim=f"{said} {EVIL}", who="who", said=said, where="grid, tiny", numbers=["0.9 against 0.8"])
        for said in ("not run", "holds")
    ]
    grids = [Grid(f"grid{EVIL}", tuple(found), (gone,))]
    pages.write_page(found, [], folder / "report.html", grids=grids, claims=claims)
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, opened; asking for anything, or a word on the console, fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened, asked, said = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    yield opened
    opened.wait_for_timeout(100)
    assert [url for url in asked if url != address and not url.startswith("data:")] == [] and said == []
    assert opened.title() == "dfkd report"  # what the texts hold has not run
    context.close()


def count(page: Page) -> str:
    return str(page.locator("#count").inner_text())


def test_samples_are_filtered_by_class_strategy_and_step(page: Page) -> None:
    assert count(page) == "144 of 144 samples match, the first 60 are shown"
    page.select_option("#by-class", "Sports")
    assert count(page).startswith("72 of 144") and page.locator(".run li:visible").count() == 60
    page.select_option("#by-strategy", "real_text")
    assert count(page) == "24 of 144 samples match" and page.locator(".run:visible").count() == 1
    page.select_option("#by-step", "300")
    assert count(page) == "6 of 144 samples match"
    assert all("step 300 · Sports" in text for text in page.locator(".run li:visible").all_inner_texts())


def test_classes_and_strategies_of_any_name_can_be_chosen(page: Page) -> None:
    page.select_option("#by-class", EVIL)
    assert count(page).startswith("72 of 144")
    page.select_option("#by-strategy", f"as_dfd{EVIL}")
    assert count(page) == "24 of 144 samples match"


def test_filters_offer_only_what_the_others_let_pass(page: Page) -> None:
    def offered(name: str) -> list[str]:
        options = page.locator(f"#by-{name} option")
        return [str(o.get_attribute("value")) for o in options.all() if o.is_enabled() and o.evaluate("o => !o.hidden")]

    everything = {name: offered(name) for name in ("strategy", "class", "step")}
    assert everything["step"] == ["", "0", "100", "200", "300"] and len(everything["strategy"]) == 4
    page.evaluate("for (const one of document.querySelectorAll('.run')[1].querySelectorAll('li')) one.dataset.step = 7")
    page.select_option("#by-step", "0")
    assert f"as_dfd{EVIL}" not in offered("strategy") and len(offered("strategy")) == 3
    assert offered("step") == everything["step"]  # another one can be chosen at once
    page.select_option("#by-strategy", "real_text")
    assert "7" not in offered("step") and offered("class") == everything["class"]
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("#by-step option:not([hidden])")).to_have_count(5)


def test_texts_are_searched_as_one_types(page: Page) -> None:
    page.locator("#by-text").press_sequentially("REAL_TEXT says WORD1")
    assert "samples match" in count(page) and 0 < page.locator(".run li:visible").count() < 12
    page.locator("#by-text").fill("no such word anywhere")
    assert count(page) == "0 of 144 samples match" and page.locator(".run:visible").count() == 0
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("#count")).to_have_text("144 of 144 samples match, the first 60 are shown")


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    page.locator("#samples").scroll_into_view_if_needed()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if page.evaluate("document.activeElement.id") == "by-class":
            page.keyboard.press("S")  # a select goes to what begins so
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
        if page.evaluate("document.activeElement.id") == "by-text":
            page.keyboard.type("word")
            break
    controls = ["by-data", "by-student", "by-strategy", "by-class", "by-step", "by-text"]
    assert [name for name in reached if name in controls] == controls
    assert count(page).startswith("69 of 144")  # three of the 72 say something else
    page.keyboard.press("Enter")  # sends nothing, loads nothing
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "more"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "LI" and "the first" not in count(page)


def test_controls_have_names_and_the_count_is_announced(page: Page) -> None:
    for name in ("data set", "student", "strategy", "teacher says", "step"):
        assert page.get_by_role("combobox", name=name, exact=True).count() == 1
    assert page.get_by_role("searchbox", name="text contains").count() == 1
    assert page.locator("#count").get_attribute("aria-live") == "polite"
    assert page.locator("svg:not([role=img][aria-label])").count() == 0


@pytest.mark.parametrize("width", [360, 800])
def test_a_narrow_page_does_not_scroll_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if width == 360:  # the table scrolls in its own box
        assert page.evaluate("(b => b.scrollWidth > b.clientWidth)(document.querySelector('.wide'))")


def test_claims_are_cards_on_a_narrow_screen(page: Page) -> None:
    verdicts = page.locator("table.claims tbody th[scope=row]")
    assert verdicts.all_inner_texts() == ["holds", "not run"]  # what tells comes first
    page.set_viewport_size({"width": 375, "height": 700})
    box = page.locator(".wide", has=page.locator("table.claims"))
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    cells = page.locator("table.claims tbody").first.locator("th, td").all()
    tops = [cell.bounding_box()["y"] for cell in cells]  # type: ignore[index]
    assert tops == sorted(set(tops)) and len(tops) == 4
    assert page.get_by_role("cell", name="0.9 against 0.8").count() == 2  # still a table for a screen reader


def test_pictures_stop_the_tabulator_only_where_they_scroll(page: Page) -> None:
    canvas = page.locator(".canvas:visible").first
    assert canvas.get_attribute("tabindex") is None
    page.set_viewport_size({"width": 360, "height": 700})
    expect(canvas).to_have_attribute("tabindex", "0")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert canvas.evaluate("box => box.scrollLeft") > 0


def test_tables_fit_a_printed_page(page: Page) -> None:
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 between margins of 10 mm
    page.emulate_media(media="print")
    for kind in ("claims", "comparison"):
        table = page.locator(f"table.{kind}").first
        assert table.evaluate("table => table.scrollWidth") <= 718


def test_comparisons_can_be_scrolled_with_the_keyboard(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    box = page.locator(".wide", has=page.locator("table.comparison")).first
    box.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert box.evaluate("box => box.scrollLeft") > 0
    assert "75.0 ± –" in box.inner_text() and "failed: </script>" in page.locator(".lacking").inner_text()


def test_scripts_in_texts_stay_texts(page: Page) -> None:
    assert page.locator("script").count() == 1 and page.locator("img").count() == 0
    assert "here it is </script><script>" in page.locator(".run li").first.inner_text()


def test_a_script_that_came_in_would_not_run(browser: Browser, address: str) -> None:
    """The page allows no script but its own, by its hash."""
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(address)
    blocked = opened.evaluate(
        "new Promise(done => { document.addEventListener('securitypolicyviolation', () => done(true));"
        "setTimeout(() => done(false), 2000); const one = document.createElement('script');"
        "one.textContent = \"document.title = 'hacked'\"; document.body.append(one); })"
    )
    assert blocked and opened.title() == "dfkd report"
    context.close()


def test_without_javascript_the_samples_are_there(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(address)
    assert opened.locator(".run li:visible").count() == 144 and not opened.locator("#filters").is_visible()
    context.close()


def test_dark_and_printed_pages(page: Page) -> None:
    light = page.evaluate("getComputedStyle(document.querySelector('.run h3 span')).color")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.querySelector('.run h3 span')).color") != light
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible() and not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.chapter:not([open])").count() == 0
