"""Look at pages with a headless Chromium; for tests/test_site.py."""

import functools
import http.server
import json
import queue
import shutil
import subprocess
import threading
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run"
FLAGS = [*FLAGS.split(), "--disable-dev-shm-usage", "--hide-scrollbars"]
# Nothing but this machine can be reached, so a page that asks another one is seen.
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
# First of all in each page: what goes wrong in it is noted.
NOTE = b"""<script>
window.wrong = [];
addEventListener("error", e => wrong.push(e.message));
addEventListener("unhandledrejection", e => wrong.push(String(e.reason)));
console.error = (...said) => wrong.push(said.join(" "));
</script>"""
# A page that loads each of some others in a frame, and sends what is wrong with them: what they
# noted, what did not load or came from elsewhere, lines of code and of tables that are read by
# scrolling alone, what stands out of the page on the right, and texts that are cut.
LOOK = """<script>
const text = e => e.textContent.slice(0, 60);
const wide = e => e.scrollWidth > e.clientWidth + 1;
async function look(page) {
  const frame = document.createElement("iframe");
  frame.style = "width: 1280px; height: 900px; border: 0";
  frame.src = page;
  document.body.append(frame);
  await new Promise(done => frame.onload = done);
  const view = frame.contentWindow, doc = frame.contentDocument;
  const all = words => [...doc.querySelectorAll(`.bd-article :is(${words})`)];
  for (const image of doc.images) {
    image.loading = "eager";
    await image.decode().catch(() => view.wrong.push(`no picture: ${image.src}`));
  }
  const lost = view.performance.getEntriesByType("resource").filter(
    e => e.responseStatus >= 400 || !e.name.match(`^(${location.origin}|data:|blob:)`));
  const long = all("pre, .pst-scrollable-table-container").filter(wide);
  const found = [...view.wrong, ...lost.map(e => `lost: ${e.name}`)];
  found.push(...long.map(e => `scrolls: ${text(e)}`));
  for (const width of [1280, 400]) {
    frame.style.width = `${width}px`;
    const root = doc.documentElement, over = root.scrollWidth - root.clientWidth;
    if (over > 0) found.push(`${over} pixels too wide at ${width}`);
    const cut = all("h1, h2, h3, p, dt").filter(e =>
      !e.closest("pre, table, .output_html") && getComputedStyle(e).display == "block"
      && (wide(e) || e.getBoundingClientRect().right > width));
    found.push(...cut.map(e => `cut at ${width}: ${text(e)}`));
  }
  frame.remove();
  return found;
}
(async () => {
  const found = {};
  for (const page of PAGES) found[page] = await look(page).catch(error => [String(error)]);
  fetch("", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, pages, found, **kwargs):
        self.pages, self.found = pages, found
        super().__init__(*args, **kwargs)

    def do_GET(self):
        page = self.path.lstrip("/")
        if page != "look" and page not in self.pages:
            super().do_GET()
            return
        body = f"<body>{LOOK.replace('PAGES', json.dumps(self.pages))}".encode()
        if page != "look":
            body = Path(self.translate_path(self.path)).read_bytes()
            body = body.replace(b"<head>", b"<head>" + NOTE, 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


def wrong_with(pages, site, folder, seconds=600):
    """Return what a browser finds wrong with pages of a site: a list for each page."""
    found = queue.Queue()
    handler = functools.partial(Handler, pages=pages, found=found, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/look"
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", address]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, **quiet) as process:
            try:
                return found.get(timeout=seconds)
            finally:
                process.kill()
                server.shutdown()
