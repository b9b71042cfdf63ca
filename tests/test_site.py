"""The built site, as a reader's browser sees it. `make test` builds it first."""

import copy
import http.server
import re
import threading
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import load_script, violations

HTML = Path(__file__).parents[1] / "_build" / "html"
MADE_BY_SPHINX = {"genindex.html", "search.html", "py-modindex.html", "index.html"}
PAGES = sorted(p.relative_to(HTML).as_posix() for p in HTML.glob("book/*.html"))
# The slow ones, so that none of them is alone at the end.
BIG_FIRST = sorted(PAGES, key=lambda page: (HTML / page).stat().st_size, reverse=True)
WIDTHS = {"desktop": 1280, "phone": 390}

CHAPTERS = sorted((HTML.parents[1] / "book").glob("[0-9][0-9]_*.ipynb"))
GLUED = "application/papermill.record/text/plain"
Printed = load_script(HTML.parents[1] / "book" / "conftest.py").Printed

pytestmark = pytest.mark.site


@pytest.fixture(scope="module", autouse=True)
def built():
    if not PAGES:
        pytest.fail(f"{HTML} holds no pages; run `make book` first")


@pytest.fixture(scope="module")
def soups():
    pages = [*PAGES, *(name for name in MADE_BY_SPHINX if (HTML / name).exists())]
    return {p: BeautifulSoup((HTML / p).read_text(encoding="utf-8"), "html.parser") for p in pages}


# ---- the files --------------------------------------------------------------


def test_no_broken_internal_link(soups):
    broken = []
    for page, soup in soups.items():
        for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
            for element in soup.find_all(tag, attrs={attribute: True}):
                target, anchor = urldefrag(urljoin(f"site:/{page}", element[attribute]))
                if not target.startswith("site:"):
                    continue
                path = HTML / unquote(urlparse(target).path).lstrip("/")
                if not path.is_file():
                    broken.append(f"{page}: {element[attribute]}")
                elif anchor and path.suffix == ".html" and tag == "a":
                    other = soups.get(path.relative_to(HTML).as_posix())
                    if other is not None and not other.find(attrs={"id": unquote(anchor)}):
                        broken.append(f"{page}: {element[attribute]} (no such anchor)")
    assert not broken


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_numbers_in_the_text_are_those_that_the_build_computed(chapter):
    """The cells that hand them on are not in the plain copies, which nbval compares."""
    from jupyter_cache import get_cache

    cache = get_cache(HTML.parent / ".jupyter_cache")
    built = cache.get_cache_bundle(cache.match_cache_file(chapter).pk).nb
    computed, committed = glued(built), glued(nbformat.read(chapter, as_version=4))
    assert committed.keys() <= computed.keys()
    assert {name: Printed(text) for name, text in committed.items()} == {n: computed[n] for n in committed}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_buttons_lead_to_plain_copies(soups, chapter):
    links = {a["href"] for a in soups[f"book/{chapter.stem}.html"].select("a[href]")}
    assert any(link.endswith(f"/main?urlpath=lab/tree/notebooks/{chapter.name}") for link in links)
    assert any(link.endswith(f"/blob/notebooks/{chapter.name}") for link in links)
    [download] = {link for link in links if "_sources" in link}
    copy = nbformat.read(HTML / "book" / download, as_version=4)
    assert not any("{glue" in cell.source or ":::" in cell.source for cell in copy.cells)


def glued(notebook):
    """What the text shows of cells whose outputs do not vary."""
    return {
        output.metadata["scrapbook"]["name"]: str(output.data[GLUED])
        for cell in notebook.cells
        if "nbval-ignore-output" not in cell.get("metadata", {}).get("tags", ())
        for output in cell.get("outputs", ())
        if GLUED in output.get("data", {})
    }


def test_every_picture_says_what_it_shows(soups):
    silent = [
        f"{page}: {image.get('src')}"
        for page, soup in soups.items()
        for image in soup.select("main img")
        if not (image.get("alt") or "").strip() or image["alt"] == image.get("src")
    ]
    assert not silent


def test_nothing_is_loaded_from_elsewhere(soups):
    loaded = [
        f"{page}: {element.get('src') or element.get('href')}"
        for page, soup in soups.items()
        for element in soup.select("script[src], link[rel=stylesheet], link[rel=preload], img[src], iframe")
        if re.match(r"(https?:)?//", element.get("src") or element.get("href") or "")
    ]
    assert not loaded


def test_no_role_or_directive_is_left_unread(soups):
    """Markup that was not understood would stand in the text as it was typed."""
    for page in PAGES:
        main = copy.copy(soups[page].select_one("main"))
        for code in main.select("pre, code, script"):
            code.extract()
        assert not re.search(r"\{(glue|cite|ref|doc|numref)[:}]|:::|np\.float64", main.get_text()), page


def test_each_page_describes_itself(soups):
    titles = [soups[page].title.get_text() for page in PAGES]
    assert len(set(titles)) == len(PAGES)


# ---- the browser ------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def origin():
    """The site on a local server, as a host would serve it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=HTML))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def _open(browser, url, width, mode):
    """The page after it settled, with what went wrong on the way."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=mode)
    context.add_init_script(
        f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}')"
    )
    page = context.new_page()
    page.troubles = []
    page.on("console", lambda m: m.type == "error" and page.troubles.append(f"console: {m.text}"))
    page.on("pageerror", lambda error: page.troubles.append(f"error: {error}"))
    page.on("requestfailed", lambda r: page.troubles.append(f"failed: {r.url}"))
    page.on("response", lambda r: r.status >= 400 and page.troubles.append(f"{r.status}: {r.url}"))
    home = "{0.scheme}://{0.netloc}".format(urlparse(url))
    page.on(
        "request",
        lambda r: (
            r.url.startswith((home, "data:", "blob:")) or page.troubles.append(f"leaves the site: {r.url}")
        ),
    )
    page.goto(url, wait_until="load", timeout=120_000)  # a busy machine takes its time
    page.evaluate(
        "async () => { await document.fonts.ready; if (window.MathJax) await MathJax.startup.promise; }"
    )
    return page


@pytest.mark.browser
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("name", BIG_FIRST)
def test_page(browser, origin, name, mode):
    """In each mode at each width. A page is loaded once a mode, light at a desktop's width and dark at a
    phone's, and then gets the other width, as when a window is resized."""
    widths = sorted(WIDTHS.values(), reverse=mode == "light")
    page = _open(browser, f"{origin}/{name}", widths[0], mode)
    try:
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            _check(page, f"{width} px, {mode}", mode)
            if width == WIDTHS["phone"] and re.match(r"book/\d", name):
                _check_drawings(page)
        assert not page.troubles
    finally:
        page.context.close()


def _check(page, case, mode):
    assert not page.troubles, case
    assert page.evaluate("document.documentElement.dataset.theme") == mode
    overflow = page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, f"{case}: the page is {overflow} px wider than the window"
    untypeset = page.evaluate(
        "[...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).length"
    )
    assert untypeset == 0, "mathematics was not typeset"
    serious = [
        f"{v['id']}: {v['help']}: " + "; ".join(n["html"][:200] for n in v["nodes"][:3])
        for v in violations(page)
        if v["impact"] in ("serious", "critical")
    ]
    assert not serious, case


def _check_drawings(page):
    """Drawings of several panels stay readable on a phone."""
    drawings = page.evaluate(
        "[...document.querySelectorAll('.cell_output figure img')].map(i => ["
        "i.naturalWidth, i.clientWidth, i.parentElement.scrollWidth - i.parentElement.clientWidth,"
        "i.parentElement.tabIndex])"
    )
    assert drawings
    for drawn, shown, beyond, tab_index in drawings:
        # Ticks are drawn 14 px high; 9 px can be read. Narrower drawings fit the screen as they are.
        assert drawn <= 750 or shown >= 0.65 * drawn
        assert beyond <= 0 or tab_index == 0, "the keyboard cannot scroll it"


@pytest.mark.browser
def test_search_finds_a_chapter(browser, origin):
    page = _open(browser, f"{origin}/search.html?q=Gini", 1280, "light")
    try:
        page.wait_for_selector("#search-results li a", timeout=15_000)
        assert "01_explore" in page.inner_html("#search-results")
        assert not page.troubles
    finally:
        page.context.close()
