"""The site as a reader meets it: built without a warning, and looked at in a headless Chromium."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = DOCS / "_build" / "html"
WIDTHS = (1280, 400)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    # Nothing but this machine can be reached, so a page that asks another one is seen.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

# All on one process of pytest-xdist: the others would wait for its build.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]


def sources():
    """Every file that the site is made from."""
    made = {"_build", "auto_examples", "generated", "__pycache__", "sg_execution_times.rst"}
    for folder in (DOCS, ROOT / "examples", ROOT / "sknoisydim"):
        for path in folder.rglob("*"):
            if path.is_file() and not made & set(path.relative_to(ROOT).parts):
                yield path


@contextlib.contextmanager
def locked(path):
    """One process at a time: pytest-xdist asks for the site in each of its own."""
    fcntl = pytest.importorskip("fcntl", reason="the lock on the build is that of POSIX")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def site():
    """The built site, as `make docs` builds it; what is fresh is not built again.

    An example that has not changed is not run again either; a fresh clone runs all.
    """
    SITE.mkdir(parents=True, exist_ok=True)
    stamp = SITE.parent / "tested"
    with locked(SITE.parent / "lock"):
        newest = max(path.stat().st_mtime for path in sources())
        if not (stamp.exists() and stamp.stat().st_mtime > newest):
            start = time.time()
            done = subprocess.run(
                [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", DOCS, SITE],
                capture_output=True,
                text=True,
                check=False,
                # An example that warns is an error, as one that fails is.
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error:::__main__"},
            )
            if done.returncode != 0:
                shutil.rmtree(SITE)  # the next build would not repeat the warning
            assert done.returncode == 0, done.stderr[-4000:]
            stamp.touch()
            os.utime(stamp, (start, start))
    return SITE


def pages(site):
    """All pages, by path from the root of the site."""
    skipped = {"genindex.html", "search.html"}  # made of what the others hold
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    return [page for page in found if page not in skipped and not page.startswith("_static")]


class Links(HTMLParser):
    """What a page links to, what it shows, and where others can link to in it."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.anchors, self.untold = [], set(), []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.targets += [found[key] for key in ("href", "src") if found.get(key)]
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "img" and "alt" not in found:  # an empty one is for what the text says already
            self.untold.append(found.get("src"))


def test_internal_links_lead_somewhere(site):
    parsed = {(site / page).resolve(): Links(site / page) for page in pages(site)}
    broken = []
    for page, links in parsed.items():
        for target in links.targets:
            address, anchor = urldefrag(target)
            if urlsplit(address).scheme or address.startswith("//"):
                continue
            path = (page.parent / unquote(urlsplit(address).path)).resolve() if address else page
            lost = anchor and path in parsed and unquote(anchor) not in parsed[path].anchors
            if lost or not path.exists():
                broken.append((page.name, target))
    assert broken == []


def test_pictures_are_described_in_words(site):
    untold = {page: Links(site / page).untold for page in pages(site)}
    assert {page: found for page, found in untold.items() if found} == {}


class Browser:
    """A page of a headless Chromium, over the DevTools protocol."""

    def __init__(self, folder):
        websocket = pytest.importorskip("websocket", reason="needs websocket-client")
        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = Path(folder) / "DevToolsActivePort"
        self.wait(lambda: port.exists() and port.read_text().strip(), "Chromium does not start")
        number = port.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{number}/json/list") as answer:
            page = next(each for each in json.load(answer) if each["type"] == "page")
        self.socket = websocket.create_connection(
            page["webSocketDebuggerUrl"], timeout=60, suppress_origin=True
        )
        self.count, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @staticmethod
    def wait(condition, complaint, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, complaint
            time.sleep(0.05)

    def close(self):
        with contextlib.suppress(OSError, AttributeError):
            self.socket.close()
        self.process.kill()
        self.process.wait()

    def receive(self):
        message = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def call(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while (message := self.receive()).get("id") != self.count:
            pass
        assert "error" not in message, message
        return message["result"]

    def open(self, url, width):
        self.events.clear()
        self.resize(width)
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.receive()

    def resize(self, width):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )

    def run(self, script):
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def errors(self):
        """What the console shows in red, and what did not load."""
        found = []
        for event in self.events:
            kind, params = event["method"], event["params"]
            if kind == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["text"])
            elif kind == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(str(params["args"])[:300])
            elif kind == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif kind == "Network.loadingFailed" and not params.get("canceled"):
                found.append(params["errorText"])
        return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    browser = Browser(tmp_path)
    yield browser
    browser.close()


# Pictures that cannot be shown, texts that are cut, and what stands out of the page on the right.
PICTURES = """Promise.all([...document.images].map(image => {
  image.loading = "eager";
  return image.decode().then(() => null, () => image.src);
})).then(found => found.filter(Boolean))"""
CUT = """[...document.querySelectorAll(".bd-article :is(h1, h2, h3, p, dt)")]
  .filter(e => !e.closest("pre, table, .output_html") && getComputedStyle(e).display == "block")
  .filter(e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
  .map(e => e.textContent.slice(0, 60))"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_pages_load_and_fit(site, address, browser):
    wrong = {}
    for page in pages(site):
        browser.open(f"{address}/{page}", WIDTHS[0])
        found = browser.run(PICTURES)
        for width in WIDTHS:
            browser.resize(width)
            over = browser.run(OVERFLOW)
            if over > 0:
                found.append(f"{over} pixels too wide at {width}")
            found += [f"cut at {width}: {text}" for text in browser.run(CUT)]
        found += browser.errors()
        if found:
            wrong[page] = found
    assert wrong == {}


def test_every_example_shows_a_picture(site, address, browser):
    for script in sorted((ROOT / "examples").glob("plot_*.py")):
        browser.open(f"{address}/auto_examples/{script.stem}.html", WIDTHS[0])
        shown = browser.run('document.querySelectorAll(".bd-article img, .bd-article svg").length')
        assert shown > 0, script.stem


def test_search_box_finds_a_word(site, address, browser):
    browser.open(f"{address}/index.html", WIDTHS[0])
    browser.events.clear()
    browser.run(
        """{
          const form = document.querySelector("form.bd-search");
          form.querySelector("input").value = "noise";
          form.requestSubmit();
        }"""
    )
    while not any(event["method"] == "Page.loadEventFired" for event in browser.events):
        browser.receive()
    titles = '[...document.querySelectorAll("#search-results li a")].map(a => a.textContent)'
    browser.wait(lambda: len(browser.run(titles)) > 5, "the search finds hardly anything")
    assert any("noise" in title.lower() for title in browser.run(titles))
    assert browser.errors() == []


def test_the_checks_see_what_is_wrong(tmp_path, browser):
    page = tmp_path / "page.html"
    page.write_text(
        '<title>x</title><img src="lost.png"><div style="width: 2000px">wide</div>'
        '<script>console.error("said"); throw new Error("thrown")</script>',
        encoding="utf-8",
    )
    browser.open(page.as_uri(), WIDTHS[1])
    assert browser.run(PICTURES) == [(tmp_path / "lost.png").as_uri()]
    assert browser.run(OVERFLOW) > 0
    assert len(browser.errors()) >= 3
    assert Links(page).untold == ["lost.png"]
