"""The site is built without a warning, which runs all examples, and its links lead somewhere."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import browser
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = DOCS / "_build" / "html"


def build():
    """Build the site as `make docs` does: an example that has not changed is not run again."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", DOCS, SITE]
    # An example that warns is an error, as one that fails is.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error:::__main__"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        shutil.rmtree(SITE, ignore_errors=True)  # the next build would not repeat the warning
    assert done.returncode == 0, done.stderr[-4000:]
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


def check_that_internal_links_lead_somewhere(site):
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


def check_the_figures_of_when_not():
    printed = (DOCS / "auto_examples" / "plot_when_not.rst").read_text(encoding="utf-8")
    rows = [re.split(r"  +", line.strip()) for line in printed.splitlines()]
    found = {name: figures for name, *figures in rows if figures}
    lines = (DOCS / "guide" / "_generated_when_not.inc").read_text(encoding="utf-8").splitlines()
    edges = [i for i, line in enumerate(lines) if line.startswith("===")]
    table = [lines[edges[0] + 1], *lines[edges[1] + 1 : edges[2]]]
    (_, *methods), *stated = [re.split(r"  +", row) for row in table]
    assert methods in found.values()
    for name, *figures in stated:
        # Another machine trains to other last bits; 2,000 rows are good to about 0.02.
        pair = np.array([found[name], figures], float)
        np.testing.assert_allclose(*pair, atol=0.05, err_msg=name)


@pytest.mark.slow
def test_the_site(tmp_path):
    """One test, so that one process of pytest-xdist builds it, and once."""
    site = build()
    check_that_internal_links_lead_somewhere(site)
    # Pictures are described in words.
    assert [page for page in pages(site) if Links(site / page).untold] == []
    check_the_figures_of_when_not()
    if browser.CHROMIUM is None:
        pytest.skip("all is well, but for how pages look: there is no Chromium on this machine")
    found = browser.wrong_with(pages(site), site, tmp_path)
    assert {page: wrong for page, wrong in found.items() if wrong} == {}


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_checks_see_what_is_wrong(tmp_path):
    (tmp_path / "page.html").write_text(
        '<head><title>x</title></head><img src="lost.png"><script src="//elsewhere"></script>'
        f'<main class="bd-article"><pre style="overflow: auto">{"x" * 500}</pre></main>'
        '<main class="bd-article"><p style="width: 1000px">long</main>'
        '<script>console.error("said"); throw new Error("thrown")</script>',
        encoding="utf-8",
    )
    (found,) = browser.wrong_with(["page.html"], tmp_path, tmp_path / "user").values()
    kinds = "said", "thrown", "no picture", "elsewhere", "scrolls: xxx", "cut at 400: long"
    assert [kind for kind in (*kinds, "too wide at 400") if kind not in "; ".join(found)] == []
