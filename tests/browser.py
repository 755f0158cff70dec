"""A headless Chromium that looks at pages, over the DevTools protocol; for tests/test_site.py."""

import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

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


# Pictures that cannot be shown, texts that are cut, and what stands out of the page on the right.
PICTURES = """Promise.all([...document.images].map(image => {
  image.loading = "eager";
  return image.decode().then(() => null, () => image.src);
})).then(found => found.filter(Boolean))"""
CUT = """[...document.querySelectorAll(".bd-article :is(h1, h2, h3, p, dt)")]
  .filter(e => !e.closest("pre, table, .output_html") && getComputedStyle(e).display == "block")
  .filter(e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
  .map(e => e.textContent.slice(0, 60))"""
# Lines of code, and of tables, that are read by scrolling alone.
LONG = """[...document.querySelectorAll(".bd-article :is(pre, .pst-scrollable-table-container)")]
  .filter(e => e.scrollWidth > e.clientWidth + 1)
  .map(e => e.textContent.slice(0, 60))"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


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


@contextlib.contextmanager
def served(folder):
    """The address of a server of the files of a folder."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
