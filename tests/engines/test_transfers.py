"""Copies to a card and back through pinned memory; the card is a stand-in, see fakes/cuda.py."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamrelay.codec import Frame
from dreamrelay.engines import stream_batch, transfers
from dreamrelay.engines.ports import Coming, EngineSettings, Result, Turn
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.engines.transfers import DEPTH, Transfers
from dreamrelay.errors import EngineError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_models import save_model
from tests.fakes import cuda

CUDA = torch.device("cuda", 0)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[cuda.Card]:
    with cuda.installed(monkeypatch) as card:
        yield card


@pytest.fixture
def pinned(card: cuda.Card) -> Transfers:
    pinned = Transfers(CUDA)
    pinned.prepare(1, 4, 6)
    assert pinned.pinned
    card.log.clear()
    return pinned


def frames(count: int, of: int = 1, height: int = 4, width: int = 6) -> list[list[Frame]]:
    source = np.random.default_rng(7)
    return [
        [source.integers(0, 256, (height, width, 3), np.uint8) for _ in range(of)]
        for _ in range(count)
    ]


# What is plain -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_elsewhere_copies_are_plain(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_Pinned", None)
    plain = Transfers(torch.device(device))
    plain.prepare(1, 4, 6)
    assert not plain.pinned


def test_on_the_processor_pixels_are_what_they_were() -> None:
    plain = Transfers(torch.device("cpu"))
    (given,) = frames(1, of=2)
    above = plain.up(given)
    assert above.shape == (2, 4, 6, 3)
    assert above.dtype == torch.uint8
    np.testing.assert_array_equal(plain.down(255 - above)(), 255 - np.stack(given))


def test_a_card_that_was_not_tried_is_served_plainly(card: cuda.Card) -> None:
    plain = Transfers(CUDA)
    (given,) = frames(1)
    np.testing.assert_array_equal(plain.down(255 - plain.up(given))(), 255 - np.stack(given))
    assert not card.pins


# Through pinned memory ---------------------------------------------------------------------------


def test_the_order_of_calls(card: cuda.Card, pinned: Transfers) -> None:
    (given,) = frames(1)
    landing = pinned.down(255 - pinned.up(given))
    card.log.append("both are under way")
    landing()
    up, down = (name.rpartition(" on ")[2] for name in card.log if name.startswith("copy on"))
    assert up != down
    (risen, sunk) = (call.split(" on ")[0] for call in card.log if call.startswith("event"))
    assert card.log == [
        f"host waits for {risen}",  # its slot's last copy, long done
        f"copy on {up}",
        f"{risen} on {up}",
        f"computing waits for {risen}",
        f"{down} waits for computing",
        f"copy on {down}",
        f"{sunk} on {down}",
        "both are under way",
        f"host waits for {sunk}",
    ]


@pytest.mark.parametrize("of", [1, 3])
def test_pixels_come_through_whatever_is_under_way(
    card: cuda.Card, pinned: Transfers, of: int
) -> None:
    given = frames(4 * DEPTH, of)
    above = []
    for several in given:
        above.append(pinned.up(several))
        for frame in several:
            frame ^= 0x55  # the caller's memory is the caller's again
    landings = [pinned.down(255 - pixels) for pixels in above]
    for several, landing in reversed(list(zip(given, landings, strict=True))):
        np.testing.assert_array_equal(landing(), 255 - (np.stack(several) ^ 0x55))
    assert not card.unrecorded
    assert len(card.pins) <= 4 * DEPTH, "a ring, that grew once at most"


def test_pictures_have_memory_of_their_own(pinned: Transfers) -> None:
    given = frames(DEPTH + 2)
    kept = [pinned.down(255 - pinned.up(one))() for one in given]
    for one, pictures in zip(given, kept, strict=True):
        np.testing.assert_array_equal(pictures, 255 - np.stack(one))
        pictures[0][:] = 0


def test_a_picture_that_nobody_fetches_blocks_nothing(pinned: Transfers) -> None:
    for one in frames(3 * DEPTH):
        pinned.down(255 - pinned.up(one))
    (last,) = frames(1)
    np.testing.assert_array_equal(pinned.down(255 - pinned.up(last))(), 255 - np.stack(last))


def test_the_size_may_change(pinned: Transfers) -> None:
    landings, given = [], []
    for height, width in ((4, 6), (16, 8), (2, 2), (16, 16), (4, 6)):
        given += frames(2, height=height, width=width)
        landings += [pinned.down(255 - pinned.up(one)) for one in given[-2:]]
    for one, landing in zip(given, landings, strict=True):
        np.testing.assert_array_equal(landing(), 255 - np.stack(one))


def test_a_thread_may_wait_while_another_goes_on(pinned: Transfers) -> None:
    (given,) = frames(1)
    landing, fetched = pinned.down(255 - pinned.up(given)), []
    thread = threading.Thread(target=lambda: fetched.extend(landing()))
    thread.start()
    thread.join(30)
    np.testing.assert_array_equal(fetched, 255 - np.stack(given))


def test_it_can_be_waited_for_while_its_slot_serves_others(
    card: cuda.Card, pinned: Transfers
) -> None:
    given = frames(DEPTH + 1)
    comings = [pinned.down(255 - pinned.up(one)) for one in given]
    card.log.clear()
    comings[0].wait()  # it left its slot in time, which holds the last one now
    comings[-1].wait()
    (first, last) = [line for line in card.log if line.startswith("host waits")]
    assert first != last, "each waits for its own copy"
    assert not any("copy" in line for line in card.log)
    for one, coming in zip(given, comings, strict=True):
        np.testing.assert_array_equal(coming(), 255 - np.stack(one))


def test_waiting_says_nothing_of_what_is_wrong(
    pinned: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = pinned.down(255 - pinned.up(frames(1)[0]))
    with monkeypatch.context() as broken:
        broken.setattr(cuda.Event, "synchronize", lambda event: fails())
        coming.wait()
        with pytest.raises(RuntimeError, match="the card hiccups"):
            coming()


# What goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "missing", "text"),
    [
        (cuda.Stream, "wait_event", "frames came up changed"),
        (cuda.Stream, "wait_stream", "pictures came down changed"),
        (cuda.Event, "synchronize", "changed"),
        (transfers._Slot, "clear", "changed"),
    ],
)
def test_a_card_that_does_not_keep_order_is_found_out_at_the_start(
    card: cuda.Card,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: Any,
    missing: str,
    text: str,
) -> None:
    def without_waiting(slot: Any, size: int) -> None:
        slot.free = None
        clear(slot, size)

    clear = transfers._Slot.clear
    fake = without_waiting if owner is transfers._Slot else lambda *args: None
    monkeypatch.setattr(owner, missing, fake)
    tried = Transfers(CUDA)
    tried.prepare(1, 4, 6)
    assert not tried.pinned
    (record,) = caplog.records
    assert record.getMessage().startswith("transfers: copies are plain, as pinned memory does not")
    assert text in record.getMessage()
    (given,) = frames(1)
    np.testing.assert_array_equal(tried.down(255 - tried.up(given))(), 255 - np.stack(given))


def test_a_driver_that_refuses_is_not_asked_again(
    card: cuda.Card, caplog: pytest.LogCaptureFixture
) -> None:
    card.pinned_left = 0
    tried = Transfers(CUDA)
    tried.prepare(1, 4, 6)
    tried.up(frames(1)[0])
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "out of memory (cudaHostAlloc)" in caplog.text


def test_without_memory_to_pin_for_a_new_size_no_frame_is_lost(
    card: cuda.Card, pinned: Transfers, caplog: pytest.LogCaptureFixture
) -> None:
    (small,) = frames(1)
    landing = pinned.down(255 - pinned.up(small))
    card.pinned_left = 0
    (large,) = frames(1, height=64)
    np.testing.assert_array_equal(pinned.down(255 - pinned.up(large))(), 255 - np.stack(large))
    np.testing.assert_array_equal(landing(), 255 - np.stack(small))
    assert not pinned.pinned
    assert len(caplog.records) == 1


# In the engine -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("transfers") / "model")


def pictures(folder: Path, size: int, seen: list[Transfers]) -> list[Frame]:
    """What an engine makes of moving frames, that its caller writes over."""
    options = {"strength": 0.8, "num_inference_steps": 2}
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(folder),
            device="cpu",
            acceleration="none",
            width=72,
            frame_buffer_size=size,
            parameters=options,
        )
    )
    engine.load(lambda progress: None)
    seen.append(engine._transfers)
    other = engine.beside({"seed": 3})
    made = []
    for at in range(DEPTH):  # and three go up for each
        frame = noise_frame(at, 72, 64)
        for one in (engine, other):
            result = one.infer(frame, at)
            assert result is not None
            made.append(result.frame)
        made.append(engine.infer_once(frame, {}))
        frame[:] = 0
    other.close()
    engine.close()
    return made


@pytest.mark.parametrize(("size", "broken"), [(1, False), (2, False), (1, True)])
def test_an_engine_makes_the_same_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, size: int, broken: bool
) -> None:
    seen: list[Transfers] = []
    plain = pictures(folder, size, seen)
    with cuda.installed(monkeypatch, lazy=False) as card, monkeypatch.context() as patch:
        patch.setattr(stream_batch, "Transfers", lambda device: Transfers(CUDA))
        if broken:
            patch.setattr(cuda.Event, "synchronize", lambda event: None)
        made = pictures(folder, size, seen)
        assert not card.unrecorded
    assert [one.pinned for one in seen] == [False, not broken]
    for one, other in zip(made, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def opened(folder: Path, **parameters: Any) -> StreamBatchEngine:
    values = {"strength": 0.8, "num_inference_steps": 2, **parameters}
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(folder), device="cpu", acceleration="none", width=72, parameters=values
        )
    )
    engine.load(lambda progress: None)
    return engine


@pytest.mark.parametrize("more", [{}, {"smoothing": 0.5}, {"enable_similar_image_filter": True}])
def test_a_frame_is_begun_before_the_picture_of_the_last_is_down(
    folder: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    plain = opened(folder, **more)
    assert not plain.overlaps, "here nothing goes on while one waits"
    expected = [plain.infer(noise_frame(at, 72, 64), at) for at in range(5)]
    with cuda.installed(monkeypatch, lazy=False) as card, monkeypatch.context() as patch:
        patch.setattr(stream_batch, "Transfers", lambda device: Transfers(CUDA))
        engine = opened(folder, **more)
        assert engine.overlaps
        begun = [engine.begin(noise_frame(0, 72, 64), 0)]
        results = []
        for at in range(1, 5):
            # Recorded behind the last copy: the picture of the frame before is down.
            down = [line for line in card.log if " on copying" in line and "copy" not in line[:4]]
            landed = f"host waits for {down[-1].partition(' on ')[0]}"
            before = landed in card.log
            card.log.clear()
            frame = noise_frame(at, 72, 64)
            begun.append(engine.begin(frame, at))
            frame[:] = 0
            assert landed not in card.log, "nobody waits for it"
            assert sum("copy on" in line for line in card.log) == 2, "up, and down"
            begins = len(card.log)
            results.append(begun.pop(0)())
            # The first picture is made at once, and all where the next frame looks at the last.
            assert before == (bool(more) or at == 1)
            assert before or landed in card.log[begins:]
            card.log[:] = card.log[:begins]
        results.append(begun.pop(0)())
        assert not card.unrecorded
    for one, other in zip(results, expected, strict=True):
        assert one is not None
        assert other is not None
        assert one.token == other.token
        np.testing.assert_array_equal(one.frame, other.frame)


Meanwhile = Callable[[StreamBatchEngine], object]

MEANWHILE: dict[str, Meanwhile] = {
    "prompt": lambda engine: engine.apply({"prompt": "a fox", "seed": 9}),
    "strength": lambda engine: engine.apply({"strength": 0.4, "guidance_scale": 1.7}),
    "another mask": lambda engine: engine.apply({"mask_feather": 9.0, "mask_strength": 0.2}),
    "similar": lambda engine: engine.apply({"enable_similar_image_filter": True}),
    "smoothing": lambda engine: engine.apply({"smoothing": 0.5, "output_feedback": 0.3}),
    "transition": lambda engine: engine.apply({"prompt": "a fox", "transition_frames": 3}),
    "size": lambda engine: engine.apply({"width": 64}),
    "cut": StreamBatchEngine.forget,
    "single": lambda engine: engine.infer_once(noise_frame(50, 72, 64), {"prompt": "a hat"}),
    "together": lambda engine: engine.infer_together(
        [
            Turn(engine, noise_frame(51, 72, 64), 51),
            Turn(engine, noise_frame(52, 72, 64), 52, None, {}),
        ]
    ),
}


def asked_meanwhile(
    engine: StreamBatchEngine, meanwhile: Meanwhile, *, ahead: bool
) -> list[Result[int] | None]:
    """Five frames, and something else between the second and the third."""
    made: list[Result[int] | None] = []
    begun: deque[Callable[[], Result[int] | None]] = deque()
    for at in range(5):
        if at == 2:
            meanwhile(engine)
        width = engine.width
        mask = np.full((64, width), 255, np.uint8)
        mask[:, : width // 2] = 0
        # The third again and again: the similar-image filter has something to skip.
        frame = noise_frame(min(at, 2), width, 64)
        if ahead:
            begun.append(engine.begin(frame, at, mask))
            if len(begun) > 1:
                made.append(begun.popleft()())
        else:
            made.append(engine.infer(frame, at, mask))
    made += [land() for land in begun]
    engine.close()
    return made


@pytest.mark.parametrize("name", MEANWHILE)
def test_what_is_asked_for_meanwhile_leaves_each_picture_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    expected = asked_meanwhile(opened(folder), MEANWHILE[name], ahead=False)
    with cuda.installed(monkeypatch, lazy=False) as card, monkeypatch.context() as patch:
        patch.setattr(stream_batch, "Transfers", lambda device: Transfers(CUDA))
        made = asked_meanwhile(opened(folder), MEANWHILE[name], ahead=True)
        assert not card.unrecorded
    assert len(made) == len(expected)
    for one, other in zip(made, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.token, one.repeated) == (other.token, other.repeated)
            np.testing.assert_array_equal(one.frame, other.frame)


@pytest.mark.parametrize("failing", ["begin", "land"])
def test_a_frame_that_fails_leaves_those_beside_it_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    with cuda.installed(monkeypatch, lazy=False), monkeypatch.context() as patch:
        patch.setattr(stream_batch, "Transfers", lambda device: Transfers(CUDA))
        engine = opened(folder, num_inference_steps=1)
        plain = [engine.infer(noise_frame(at, 72, 64), at) for at in range(3)]
        first = engine.begin(noise_frame(0, 72, 64), 0)
        with monkeypatch.context() as broken:
            if failing == "begin":
                broken.setattr(engine, "decoding", lambda latents: fails())
                with pytest.raises(EngineError, match="the card hiccups"):
                    engine.begin(noise_frame(1, 72, 64), 1)
            else:
                broken.setattr(engine, "decoding", lambda latents: Coming(fails))
                second = engine.begin(noise_frame(1, 72, 64), 1)
        third = engine.begin(noise_frame(2, 72, 64), 2)
        results = [first()]
        if failing == "land":
            for _ in range(2):
                with pytest.raises(EngineError, match="the card hiccups"):
                    second()
        results.append(third())
        engine.close()
    for one, other in zip(results, [plain[0], plain[2]], strict=True):
        assert one is not None
        assert other is not None
        assert one.token == other.token
        np.testing.assert_array_equal(one.frame, other.frame)


def fails() -> list[Frame]:
    raise RuntimeError("the card hiccups")
