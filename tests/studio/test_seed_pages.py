"""The web seeds in a real browser: small pages of our own that do what theirs do, in order."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from dreamrelay.config import RelaySettings
from tests.relay.pages import Painter
from tests.support import RunningRelay, start_relay

CAMERA = """
  const video = document.createElement('video');
  video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
  await video.play();
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 128;
  const grab = () => canvas.getContext('2d').drawImage(video, 0, 0, 128, 128);
  const socket = (path) => new WebSocket(`ws://${location.host}${path}`);
  window.shown = 0;
  window.errors = [];
"""

LOOK = """
  // What people see: the middle of the picture that is shown now.
  window.colour = () => {
    const one = document.createElement('canvas');
    one.width = one.height = 1;
    const image = document.querySelector('img');
    if (!image || !image.naturalWidth) return null;
    one.getContext('2d').drawImage(image, 0, 0, 1, 1);
    return [...one.getContext('2d').getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
"""

WEB = (
    CAMERA
    + LOOK
    + """
  const user = crypto.randomUUID();
  const ws = socket(`/api/ws/${user}`);
  window.statuses = [];
  ws.onmessage = (event) => {
    const {status, message} = JSON.parse(event.data);
    statuses.push(status);
    if (status === 'connected') {
      ws.send(JSON.stringify({mode: 'human'}));
      const image = document.createElement('img');
      image.src = `/api/stream/${user}`;
      document.body.append(image);
    } else if (status === 'send_frame') {
      ws.send(JSON.stringify({status: 'next_frame'}));
      ws.send(JSON.stringify({prompt: PROMPT, ip_adapter_scale: 1, mode: 'human'}));
      if (statuses.length < 5) return ws.send(new Blob([]));
      grab();
      canvas.toBlob((blob) => ws.send(blob), 'image/jpeg', 1);
    } else if (status === 'error') {
      errors.push(message);
    }
  };
"""
)

BROADCAST = (
    CAMERA
    + LOOK
    + """
  const image = document.createElement('img');
  document.body.append(image);
  const ws = socket('/ws/broadcaster/alice?processor_type=lightning');
  ws.onopen = () => {
    ws.send('{"type":"ping"}');
    ws.send('{"type":"get_server_info"}');
    ws.send(JSON.stringify({type: 'update_prompt', prompt: PROMPT}));
    let frameNumber = 0;
    setInterval(() => {
      grab();
      ws.send(JSON.stringify({
        type: 'frame', streamId: 'alice', frame: canvas.toDataURL('image/jpeg', 0.5),
        frameNumber: ++frameNumber, requiresProcessing: true,
      }));
    }, 150);
    setInterval(() => ws.send('{"type":"get_latest_frame"}'), 300);
  };
  ws.onmessage = (event) => {
    const said = JSON.parse(event.data);
    if (said.type === 'error') errors.push(said.message);
    if (said.type === 'latest_frame' && said.frame?.startsWith('data:image')) {
      image.src = said.frame;
      shown += 1;
    }
  };
"""
)

WATCH = (
    LOOK
    + """
  window.shown = 0;
  window.joins = 0;
  const image = document.createElement('img');
  document.body.append(image);
  const join = () => {
    const ws = new WebSocket(`ws://${location.host}/ws/viewer/alice`);
    ws.onopen = () => { joins += 1; };
    ws.onmessage = (event) => {
      const said = JSON.parse(event.data);
      if (said.type !== 'frame' || said.is_original || !said.processed) return;
      if (!said.frame.startsWith('data:image')) return;
      image.src = said.frame;
      shown += 1;
      ws.onmessage = null;
      ws.onclose = join;  // the real one opens its socket anew with each picture
      ws.close();
    };
  };
  join();
"""
)


@pytest.fixture(scope="module")
def relay() -> Iterator[RunningRelay]:
    with start_relay(RelaySettings(port=0, speech="off")) as running, Painter(running):
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(permissions=["camera", "local-network-access"])
    context.set_default_timeout(30_000)
    yield context
    context.close()


def opened(context: BrowserContext, relay: RunningRelay, script: str, prompt: str = "") -> Page:
    """A page of the relay's own origin, as behind the seeds' proxies, with this script."""
    page = context.new_page()
    code = f"const PROMPT = '{prompt}'; (async () => {{ {script} }})();"
    html = f"<!doctype html><body><script>{code}</script>"
    page.route("**/page", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto(f"{relay.url}page")
    return page


def test_streamdiffusion_web(context: BrowserContext, relay: RunningRelay) -> None:
    first = opened(context, relay, WEB, "lime")
    second = opened(context, relay, WEB, "blue")
    first.wait_for_function("window.colour?.()?.[1] > 200 && colour()[2] < 90")
    second.wait_for_function("window.colour?.()?.[2] > 200 && colour()[1] < 90")
    assert first.evaluate("errors") == []
    statuses = first.evaluate("statuses")
    assert statuses[:3] == ["connected", "wait", "send_frame"]
    assert "mode_changed" in statuses
    second.close()
    first.wait_for_function("statuses.length > 10")


def test_dreamstream(context: BrowserContext, relay: RunningRelay) -> None:
    camera = opened(context, relay, BROADCAST, "red")
    watcher = opened(context, relay, WATCH)
    camera.wait_for_function("window.shown > 1 && colour()[0] > 200 && colour()[1] < 90")
    watcher.wait_for_function("window.shown > 3 && colour()[0] > 200 && colour()[1] < 90")
    assert camera.evaluate("errors") == [], "any error is shown to people"
    joins, shown = watcher.evaluate("[joins, shown]")
    assert joins <= shown + 1
