"""Names of sources and sinks, taken apart."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.errors import ConfigError
from dreamrelay.media.address import PATH, Options, parse


class Some(Options):
    width: int = 512
    loop: bool = True
    rate: float | None = None


@pytest.mark.parametrize(
    "path",
    [
        "a.png",
        "./with space.png",
        "what?.jpg",
        "100%25.png",
        "C:\\clips\\a b.mp4",
        "c:/clips/a.mp4",
        "\\\\server\\share\\a.png",
        "/tmp/x#1.png",
        "pattern:bars",
        "/tmp/x_%06d.png",
    ],
)
def test_what_has_no_scheme_is_a_path_as_it_stands(path: str) -> None:
    address = parse(path)
    assert (address.scheme, address.target, address.query) == (PATH, path, "")
    assert address.path == Path(path)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///tmp/a%20b.png", "/tmp/a b.png"),
        ("file:///tmp/a b#1.png", "/tmp/a b#1.png"),
        ("FILE:///tmp/a.png", "/tmp/a.png"),
        ("file://localhost/tmp/a.png", "/tmp/a.png"),
        ("file:///C:/pics/a%20b.png", "C:/pics/a b.png"),
        ("file://C:\\pics\\a.png", "C:\\pics\\a.png"),
        ("file://relative/a.png", "relative/a.png"),
        ("file:///tmp/%C3%BC.png", "/tmp/ü.png"),
        ("file:///tmp/x_%06d.png", "/tmp/x_%06d.png"),
        ("file:///tmp/a%20x%d.png", "/tmp/a x%d.png"),
        ("file:///tmp/%dab.png", "/tmp/\N{REPLACEMENT CHARACTER}b.png"),
        ("directory:///photos?loop=false", "/photos"),
    ],
)
def test_urls_lead_to_paths(url: str, path: str) -> None:
    assert parse(url).path == Path(path)


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert parse("~/a.png").path == Path("/home/me/a.png")
    assert parse("file://~/a.png").path == Path("/home/me/a.png")
    assert parse("~").path == Path("/home/me")
    assert parse("~other.png").path == Path("~other.png")


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="got nothing"):
        parse(text)


@pytest.mark.parametrize("url", ["file://", "file://?x=1", "file:///a%00b"])
def test_a_path_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected a path"):
        _ = parse(url).path


def test_options_are_typed_and_have_defaults() -> None:
    assert parse("x1://y").options(Some) == Some(width=512, loop=True, rate=None)
    got = parse("x1://y?width=64&loop=false&rate=2.5").options(Some)
    assert got == Some(width=64, loop=False, rate=2.5)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("widht=3", ["unknown option 'widht'", "did you mean width?", "loop, rate, width"]),
        ("zzz=3", ["unknown option 'zzz'"]),
        ("width=3&width=4", ["'width' twice"]),
        ("width=wide", ["width:", "'wide'"]),
        ("width=", ["width:", "''"]),
        ("loop=perhaps", ["loop:", "'perhaps'"]),
        ("width", ["width:", "''"]),
    ],
)
def test_wrong_options_are_named_on_one_line(query: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"thing://y?{query}").options(Some)
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in [*words, "thing://y"])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:s3cret@10.0.0.9/stream", "rtsp://admin:***@10.0.0.9/stream"),
        ("RTSP://admin:s3cret@[::1]:554/a:b@c", "RTSP://admin:***@[::1]:554/a:b@c"),
        ("http://:s3cret@cam/live", "http://:***@cam/live"),
        ("http://me:s3@cret@cam/live", "http://me:***@cam/live"),
        ("http://me:s3/cret@cam/live", "http://me:***@cam/live"),
        ("http://cam/video.cgi?user=me&pwd=s3cret", "http://cam/video.cgi?***"),
        ("camera://http://me:s3cret@cam/a%3Fb?fps=9", "camera://http://me:***@cam/a?***?fps=9"),
        ("ws://hall:8765/?token=s3cret", "ws://hall:8765/?***"),
        ("http://cam:8080/team@hall", "http://cam:8080/team@hall"),
        (
            "video://C:/clips/me:and@you.mp4?loop=false",
            "video://C:/clips/me:and@you.mp4?loop=false",
        ),
        ("spout://a:b@c", "spout://a:b@c"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    address = parse(url)
    assert str(address) == shown
    assert address.text == url


@given(st.text(min_size=1))
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        address = parse(text)
        address.options(Some)
        assert address.path
    except ConfigError:
        return
