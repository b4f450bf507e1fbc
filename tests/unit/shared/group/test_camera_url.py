"""Addresses of cameras: what is connected to, and what is shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hams_shared.group.camera_url import parse, redacted

SHOWN = [
    ("rtsp://host/x", "rtsp://host/x"),
    ("rtsp://user:pass@host:8554/x?y=1", "rtsp://host:8554/x?y=1"),
    ("rtsp://user:p@ssW1@host/x", "rtsp://host/x"),
    ("http://user:p/ss@host/x", "http://host/x"),
    ("http://user:p#ss@host/x", "http://host/x"),
    ("http://user:p?ss@host/x", "http://host/x"),
    ("rtsp://user:12#34@host/x", "rtsp://host/x"),
    ("rtsp://user:p]ss@[fe80::1]:554/x", "rtsp://[fe80::1]:554/x"),
    ("RTSP://user:pass@host/x", "rtsp://host/x"),
    ("  rtsp://user:pass@host/x", "rtsp://host/x"),
    ("rtmp://user:pass@host/x", "rtmp://host/x"),
    ("http://host/x?user=a&password=hunter2&n=1", "http://host/x?user=a&password=***&n=1"),
    ("http://host/x?pwd=hunter2", "http://host/x?pwd=***"),
    ("http://host/x?access_token=hunter2#top", "http://host/x?access_token=***"),
    ("http://host/x?auth=hunter2", "http://host/x?auth=***"),
    ("srt://host:9000?passphrase=hunter2&mode=caller", "srt://host:9000?passphrase=***&mode=caller"),
    ("rtsp:/user:hunter2@host/x", "rtsp:***"),
    ("rtsp:user:hunter2@host/x", "rtsp:***"),
    ("http://user:12/34@host/x", "http://***@host/x"),
    ("http://user:12?34@host/x", "http://***@host/x"),
    ("rtsp://user:a@b#c@host/x", "rtsp://***@host/x"),
    ("rtsp://user:a@b/c@host/x", "rtsp://***@host/x"),
    ("rtsp://user:a@b?c@host/x", "rtsp://***@host/x"),
    ("http://user:pass@host/x?mail=a@b.c&token=hunter2", "http://***@b.c&token=***"),
    ("http://host/x?mail=a@b.c", "http://host/x?mail=a@b.c"),
    ("http://:::@/", "http:***"),
    ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
    ("camera:0", "camera:0"),
    ("clips/a@b.mp4", "clips/a@b.mp4"),
    ("push", "push"),
    ("clips/a:b.mp4", "clips/a:b.mp4"),
    ("http://host/x?loginuse=a&loginpas=hunter2&n=1", "http://host/x?loginuse=a&loginpas=***&n=1"),
    ("http://host/x?psw=hunter2", "http://host/x?psw=***"),
    ("http://host/x?p=hunter2&w=640", "http://host/x?p=***&w=640"),
    ("http://host/x?pw=hun#ter2", "http://host/x?pw=***"),
    ("http://host/x?pass=hun&ter2&n=1", "http://host/x?pass=***&n=1"),
    ("http://host/x?%70assword=hunter2", "http://host/x?%70assword=***"),
    ("http://host/x?codec=h264&compass=n", "http://host/x?codec=h264&compass=***"),
    ("rtsp://host:554/user=a_password=hunter2_channel=1.sdp", "rtsp://host:554/user=a_password=***"),
    ("http://host/x?url=rtsp://u:hunter2@cam/y&n=1", "http://host/x?url=***@cam/y&n=1"),
    ("http://host/x?url=rtsp%3A%2F%2Fu%3Ahunter2%40cam/y", "http://host/x?url=***@cam/y"),
    ("rtsp://u%3Ahunter2%40host/x", "rtsp:***"),
    ("rtsp//u:hunter2@host/x", "rtsp//***@host/x"),
    ("rtsph:/u:hunter2@host/x", "***@host/x"),
    ("/etc/hams/admin:hun/ter2@192.168.1.4:554/x", "/etc/hams/***@192.168.1.4:554/x"),
]


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_what_people_see(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("rtsp://admin:pa#ss@cam/x", "admin", "pa#ss"),
        ("rtsp://admin:pa%23ss@cam/x", "admin", "pa#ss"),
        ("rtsp://admin:pa/ss@cam/x", "admin", "pa/ss"),
        ("rtsp://admin:pa]ss@cam/x", "admin", "pa]ss"),
        ("rtsp://admin:p@ss:w@rd@cam/x", "admin", "p@ss:w@rd"),
        ("rtsp://admin:p/a@ss@cam/x", "admin", "p/a@ss"),
        ("rtsp://admin@cam/x", "admin", None),
        ("rtsp://admin:@cam/x", "admin", ""),
        ("rtsp://cam/x?mail=a@b.c", None, None),
        ("rtsp://admin:100%@cam/x", "admin", "100%"),
    ],
)
def test_what_is_connected_to(text: str, user: str | None, password: str | None) -> None:
    url = parse(text)
    assert (url.user, url.password, url.host) == (user, password, "cam")
    assert parse(url.full) == url


@pytest.mark.parametrize("text", ["rtsp://", "rtsp://user:pass@/x", "rtsp://host:99999/x", "rtsp://[::1/x", "host/x"])
def test_what_is_no_address_is_named_without_its_secrets(text: str) -> None:
    with pytest.raises(ValueError, match=r"%23|SCHEME") as caught:
        parse(text)
    assert "pass" not in str(caught.value).replace("password", "")


PASSWORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1)


@given(password=PASSWORDS)
def test_an_encoded_password_is_the_same_again_and_never_shown(password: str) -> None:
    url = parse("rtsp://cam:554/live")
    made = type(url)("rtsp", "us:er@", "Z" + password + "Z", "cam", 554, "/live")
    assert parse(made.full) == made
    assert redacted(made.full) == "rtsp://cam:554/live"


@example(password="@0#")
@example(password="@0/")
@example(password="@0?")
@given(password=PASSWORDS)
def test_a_raw_password_is_never_shown(password: str) -> None:
    secret = f"QQ{password}QQ"
    assert "QQ" not in redacted(f"rtsp://admin:{secret}@cam/live")
