import json
import random

import pytest
from browser import chromium
from explorer_world import HOSTILE, make, picture, served

from torchnle.explorer.export import export
from torchnle.explorer.regions import Region

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    return make(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def address(explorer):
    with served(explorer) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console", lambda message: page.problems.append(message.text) if message.type == "error" else None
    )
    yield page
    assert page.problems == []
    context.close()


def opened(page, address, fragment=""):
    page.goto(address + fragment)
    page.wait_for_selector("body[data-ready]")
    return page


def requested_region(page):
    return json.loads(page.get_attribute("#words", "data-requested"))["region"]


def wait_for_words(page, region):
    page.wait_for_function(
        "r => JSON.stringify(JSON.parse(words.dataset.answered || '{}').region) === r",
        arg=json.dumps(region, separators=(",", ":")),
    )


def click_cell(page, row, column, grid, inside=(0.5, 0.5)):
    box = page.locator("#stage").bounding_box()
    x = box["x"] + (column + inside[1]) / grid[1] * box["width"]
    y = box["y"] + (row + inside[0]) / grid[0] * box["height"]
    page.mouse.click(x, y)


def test_a_click_reads_the_location(page, address, explorer):
    opened(page, address)
    click_cell(page, 1, 2, (4, 4))
    wait_for_words(page, [1, 2, 1, 2])
    answer = explorer.words(next(iter(explorer.photos.given)), "norm", Region(1, 2, 1, 2))
    assert page.inner_text("#headline").startswith(answer["text"])
    assert page.locator("#headline .unsure").count() == int(answer["unsure"])
    share = 100 * answer["probability"]
    assert f"{share:.0f} %" in page.inner_text("#headline") or f"{share:.1f} %" in page.inner_text(
        "#headline"
    )
    listed = page.locator("#phrases li > span:nth-child(2)").all_inner_texts()
    assert listed == [text for text, _ in answer["phrases"]]
    assert "Row 2, column 3" in page.inner_text("#status")
    page.wait_for_selector("#sentence[data-answered]")


@pytest.mark.parametrize("width", [480, 900, 1400])
@pytest.mark.parametrize("scale", [1, 2.5])
def test_no_click_is_off_by_a_cell(browser, address, width, scale):
    context = browser.new_context(viewport={"width": width, "height": 760}, device_scale_factor=scale)
    page = opened(context.new_page(), address, "#layer=act")
    drawn = random.Random(width * scale)
    for _ in range(8):
        row, column = drawn.randrange(8), drawn.randrange(8)
        inside = drawn.uniform(0.04, 0.96), drawn.uniform(0.04, 0.96)
        page.evaluate("document.getElementById('stage').scrollIntoView({block: 'center'})")
        click_cell(page, row, column, (8, 8), inside)
        page.wait_for_function(
            "r => location.hash.includes('region=' + r)", arg=f"{row}%2C{column}%2C{row}%2C{column}"
        )
    context.close()


def test_dragging_reads_a_region(page, address):
    opened(page, address, "#layer=act")
    box = page.locator("#stage").bounding_box()
    side = box["width"] / 8
    page.mouse.move(box["x"] + 5.5 * side, box["y"] + 3.5 * side)
    page.mouse.down()
    page.mouse.move(box["x"] + 2.5 * side, box["y"] + 1.5 * side, steps=3)
    page.mouse.up()
    wait_for_words(page, [1, 2, 3, 5])
    assert page.inner_text("#where") == "Row 2 to 4, column 3 to 6 of 8 \u00d7 8"


def test_the_address_holds_the_state_and_back_goes_back(page, address, explorer):
    second = list(explorer.photos.given)[1]
    state = f"#photo={second}&layer=act&region=1,2,3,4&text=a+cat&text=a+mug&off=whiskers&over=1"
    opened(page, address, state)
    wait_for_words(page, [1, 2, 3, 4])
    page.wait_for_selector("#stage.heated")
    assert page.locator("#maps tbody th").all_inner_texts() == ["a cat", "a mug"]
    assert page.locator("#layers input:checked").get_attribute("value") == "act"
    assert page.locator("#concepts [aria-pressed=true]").all_inner_texts() == ["whiskers"]
    page.locator("#layers label", has_text="norm").click()
    wait_for_words(page, [0, 1, 1, 2])  # the same part of the photograph
    page.keyboard.press("Escape")
    page.go_back()
    wait_for_words(page, [1, 2, 3, 4])
    assert page.locator("#layers input:checked").get_attribute("value") == "act"


def test_keys_alone_suffice(page, address):
    opened(page, address, "#layer=act")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the skip link
    assert page.evaluate("document.activeElement.id") == "stage"
    for key in ["ArrowDown", "ArrowDown", "ArrowRight"]:
        page.keyboard.press(key)
    assert page.inner_text("#status") == "row 3 of 8, column 2 of 8"
    assert page.locator("#cursor").is_visible()
    page.keyboard.press("Enter")
    wait_for_words(page, [2, 1, 2, 1])
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Enter")
    wait_for_words(page, [1, 1, 2, 2])
    page.keyboard.press("Escape")
    wait_for_words(page, None)
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_function("() => JSON.parse(words.dataset.requested).region")
    assert requested_region(page)[1] == 0


def test_everything_to_press_has_a_name_and_shows_its_focus(page, address):
    opened(page, address, "#text=a+cat")
    page.wait_for_selector("#maps[data-answered]")
    unnamed = page.evaluate(
        """() => {
            const named = (each) => each.getAttribute('aria-label') || each.textContent.trim()
                || each.labels?.[0]?.textContent.trim() || each.querySelector('img')?.alt;
            const all = [...document.querySelectorAll('button, input, a, summary, [tabindex]')];
            return all.filter((each) => !named(each)).map((each) => each.outerHTML);
        }"""
    )
    assert unnamed == []
    assert page.get_attribute("#status", "aria-live") == "polite"
    page.focus("#text")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_texts_are_mapped_on_one_scale_at_all_layers(page, address, explorer):
    opened(page, address)
    page.fill("#text", "a red <b>door</b>")
    page.keyboard.press("Enter")
    page.wait_for_selector("#maps[data-answered]")
    assert page.locator("#maps tbody th").inner_text() == "a red <b>door</b>"
    assert page.locator("#maps td canvas").count() == 2
    found = explorer.maps(next(iter(explorer.photos.given)), ["a red <b>door</b>"])
    assert page.inner_text("#low") == f"{found['low']:.2f}"
    assert page.inner_text("#high").startswith(f"{found['high']:.2f}")
    page.locator("#maps td button").first.click()
    page.wait_for_selector("#stage.heated")
    assert page.locator("#layers input:checked").get_attribute("value") == "act"
    page.locator("#maps .remove").click()
    page.wait_for_selector("#maps table", state="detached")
    assert not page.locator("#stage.heated").count()


def test_maps_are_enlarged_as_the_library_does(page, address):
    import torch
    from captum.attr import LayerAttribution

    opened(page, address)
    values = torch.rand(4, 6, generator=torch.Generator().manual_seed(3))
    script = "async ([v]) => [...(await import('/static/colours.js')).enlarge(v, [4, 6], 30)]"
    found = torch.tensor(page.evaluate(script, [values.flatten().tolist()])).view(30, 30)
    expected = LayerAttribution.interpolate(values[None, None], (30, 30), "bicubic")[0, 0]
    assert torch.allclose(found.float(), expected, atol=1e-5)


def test_concepts_are_switched_off_and_on_by_name(page, address, explorer):
    opened(page, address)
    page.wait_for_selector("#why[data-answered]")
    page.fill("#concept", "whiskers")
    page.keyboard.press("Enter")
    page.wait_for_selector("#concepts [aria-pressed=true]")
    found = explorer.classes(next(iter(explorer.photos.given)), ["whiskers"])["classes"]
    best = max(found, key=lambda each: each["after"])
    assert page.locator("#classes tbody th").first.inner_text() == best["name"]
    change = best["after"] - best["before"]
    assert (
        page.locator("#classes tbody td:last-child").first.inner_text().replace("\u2212", "-")
        == f"{change:+.2f}"
    )
    page.locator("#concepts [aria-pressed=true]").click()
    page.wait_for_function("!location.hash.includes('off=')")


def test_a_photograph_is_dropped_in(page, address, tmp_path):
    opened(page, address)
    page.set_input_files("#file", str(picture(tmp_path / "own <i>photo<i>.png", seed=9)))
    page.wait_for_selector("#photos img[alt='own <i>photo<i>.png']")
    wait_for_words(page, None)
    assert page.get_attribute("#stage", "aria-label") == "Photograph own <i>photo<i>.png"


def test_what_is_no_photograph_is_said(page, address, tmp_path):
    opened(page, address)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.set_input_files("#file", str(tmp_path / "bad.png"))
    page.wait_for_selector("#problem:not([hidden])")
    assert "not an image" in page.inner_text("#problem")
    page.problems.clear()  # the browser logs the answer 400


def test_a_hostile_name_does_nothing(page, address):
    opened(page, address)
    assert page.title() == "torchnle explorer"
    assert page.locator("#photos img").first.get_attribute("alt") == HOSTILE
    assert page.locator("img[onerror]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_legible_by_day_and_night(browser, address, scheme):
    context = browser.new_context(color_scheme=scheme)
    page = opened(context.new_page(), address)
    page.wait_for_selector("#phrases li")
    pairs = page.evaluate(
        """() => [['#headline', '#words'], ['#where', '#words'], ['#model', 'body'], ['#phrases b', '#words']]
            .map(([text, behind]) => [getComputedStyle(document.querySelector(text)).color,
                getComputedStyle(document.querySelector(behind)).backgroundColor])"""
    )
    for ink, paper in pairs:
        assert contrast(ink, paper) >= 4.5, (ink, paper)
    context.close()


def contrast(*colours):
    lights = sorted(_luminance(colour) for colour in colours)
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour):
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_two_tabs_show_their_own_answers(browser, address, explorer):
    keys = list(explorer.photos.given)[:2]
    context = browser.new_context()
    tabs = [opened(context.new_page(), address, f"#photo={key}&layer=act&text={key}") for key in keys]
    for row in range(4):
        for tab in tabs:
            click_cell(tab, row, 5, (8, 8))
        for tab, key in zip(tabs, keys, strict=True):
            wait_for_words(tab, [row, 5, row, 5])
            answer = explorer.words(key, "act", Region(row, 5, row, 5))
            assert tab.inner_text("#headline").startswith(answer["text"])
    context.close()


def test_an_exported_page_opens_from_disk(page, explorer, tmp_path):
    file = export(explorer, tmp_path / "site", ["a cat", "</script><script>document.title=1</script>"])
    assert [each.name for each in file.parent.iterdir()] == ["index.html"]
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    opened(page, file.as_uri())
    page.wait_for_selector("#maps[data-answered]")
    assert page.title() == "torchnle explorer"
    click_cell(page, 3, 1, (4, 4))
    wait_for_words(page, [3, 1, 3, 1])
    key = next(iter(explorer.photos.given))
    assert page.inner_text("#headline").startswith(explorer.words(key, "norm", Region(3, 1, 3, 1))["text"])
    page.locator("#concepts button").first.click()
    page.wait_for_selector("#concepts [aria-pressed=true]")
    page.fill("#text", "a new text")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "torchnle explore" in page.inner_text("#problem")
    assert all(url.startswith(("file:", "data:")) for url in requests)
