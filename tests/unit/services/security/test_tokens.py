"""Tokens: made once, kept as hashes, found again, limited to a role and groups."""

from __future__ import annotations

import json
import os
import resource
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hams_services.security import tokens
from hams_services.security.tokens import TokenFile, Tokens
from hams_shared import locks
from hams_shared.errors import BadInputError, CredentialsError, ForbiddenError, NotFoundError, UnauthenticatedError

NOW = 1000.0


def test_a_token_is_found_by_itself_only_and_the_file_does_not_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tokens.json"
    one = tokens.add(path, "wall", "viewer", (), None, NOW)
    two = tokens.add(path, "door", "app", ("face", "yard"), 60, NOW)
    assert one != two
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert one not in path.read_text()
    assert tokens.PREFIX not in path.read_text()
    known = tokens.read(path)
    assert (known.find(one, NOW).name, known.find(two, NOW + 59).name) == ("wall", "door")
    for wrong in ("", one[:-1], one + "x", one.upper(), known.tokens[0].sha256, "é\ud800", "x" * 10_000):
        with pytest.raises(UnauthenticatedError, match="not known"):
            known.find(wrong, NOW)
    with pytest.raises(UnauthenticatedError, match="door has expired"):
        known.find(two, NOW + 60)


def test_a_role_may_what_those_before_it_may(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    for name, role, groups in (("wall", "viewer", ()), ("door", "app", ("face",))):
        tokens.add(path, name, role, groups, None, NOW)
    wall, door = tokens.read(path).tokens
    wall.allow("viewer", "any")
    door.allow("app", "face")
    door.allow("viewer", "face")
    with pytest.raises(ForbiddenError, match="role viewer; this needs app"):
        wall.allow("app", "any")
    with pytest.raises(ForbiddenError, match="for face, not for yard"):
        door.allow("viewer", "yard")
    assert (wall.sees("yard"), door.sees("yard"), door.sees("face")) == (True, False, True)


def test_owner_and_mode_of_the_file_stay(tmp_path: Path) -> None:
    """In containers the gateway reads it as another user than the one who changes it."""
    path = tmp_path / "tokens.json"
    tokens.add(path, "wall", "viewer", (), None, NOW)
    owner = (10001, 10001) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    os.chmod(path, 0o640)
    tokens.add(path, "door", "viewer", (), None, NOW)
    tokens.remove(path, "wall")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*owner, 0o640)


def test_changes_at_once_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    names = [f"t{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: tokens.add(path, name, "viewer", (), None, NOW), names))
    assert {one.name for one in tokens.read(path).tokens} == set(names)
    assert os.listdir(tmp_path) == ["tokens.json"]


def test_a_folder_that_another_process_keeps_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOCKED_S", 0.05)
    kept = os.open(tmp_path, os.O_RDONLY)
    try:
        assert locks.lock(kept)
        with pytest.raises(CredentialsError, match="another process has held the lock"):
            tokens.add(tmp_path / "tokens.json", "wall", "viewer", (), None, NOW)
    finally:
        os.close(kept)
    tokens.add(tmp_path / "tokens.json", "wall", "viewer", (), None, NOW)


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    with pytest.raises(CredentialsError, match="cannot read the tokens"):
        tokens.remove(path, "wall")
    tokens.add(path, "wall", "viewer", (), None, NOW)
    with pytest.raises(BadInputError, match="a token wall already"):
        tokens.add(path, "wall", "viewer", (), None, NOW)
    for name in ("", "a b", "../x", "x" * 65):
        with pytest.raises(BadInputError, match="no name of a token"):
            tokens.add(path, name, "viewer", (), None, NOW)
    with pytest.raises(NotFoundError, match="no token door.*there are wall"):
        tokens.remove(path, "door")
    tokens.remove(path, "wall")
    assert tokens.read(path) == Tokens()
    for text in ("", "[]", "{", '{"version": 2}', '{"tokens": [{"name": "x"}]}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(CredentialsError, match="no file of tokens"):
            tokens.read(path)


def test_a_file_is_read_again_when_it_has_changed_and_a_broken_one_lets_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    now = [NOW]
    file = TokenFile(path, required=False, clock=lambda: now[0])
    assert not file.used
    token = tokens.add(path, "wall", "viewer", (), 60, NOW)
    assert file.used
    assert file.check(token).name == "wall"
    with pytest.raises(UnauthenticatedError, match="a token is needed"):
        file.check("")
    now[0] += 61
    with pytest.raises(UnauthenticatedError, match="expired"):
        file.check(token)
    now[0] = NOW
    whole = path.read_bytes()
    for break_ in (lambda: path.write_bytes(whole[:-5]), lambda: path.unlink()):
        break_()
        assert file.used
        with pytest.raises(UnauthenticatedError, match="not known"):
            file.check(token)
    assert "nobody is let in" in caplog.text
    path.write_bytes(whole)
    assert file.check(token).name == "wall"
    os.chmod(path, 0o644)
    tokens.read(path)
    assert "chmod 600" in caplog.text
    assert json.loads(whole)["version"] == 1


def test_a_file_of_the_same_time_and_size_is_read_again(tmp_path: Path) -> None:
    """As after a chmod, which changes neither."""
    path = tmp_path / "tokens.json"
    token = tokens.add(path, "wall", "viewer", (), None, NOW)
    whole = path.read_bytes()
    path.write_bytes(b"[" + whole[1:])
    file, broken = TokenFile(path, required=True), path.stat()
    with pytest.raises(UnauthenticatedError, match="not known"):
        file.check(token)
    while path.stat().st_ctime_ns == broken.st_ctime_ns:  # a file system's clock may be coarse
        path.write_bytes(whole)
        os.utime(path, ns=(broken.st_atime_ns, broken.st_mtime_ns))
    assert path.stat().st_ino == broken.st_ino
    assert file.check(token).name == "wall"


def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    token = tokens.add(path, "wall", "viewer", (), None, NOW)
    file = TokenFile(path, required=True)
    monkeypatch.setattr(tokens, "AGAIN_S", 0.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        for _ in range(3):
            with pytest.raises(UnauthenticatedError, match="not known"):
                file.check(token)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert file.check(token).name == "wall"
    assert caplog.text.count("nobody is let in") == 1


def test_a_required_file_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "none", required=True)
    assert file.used
    with pytest.raises(UnauthenticatedError, match="not known"):
        file.check("x")


def test_where_the_file_cannot_be_looked_for_nobody_is_let_in(tmp_path: Path) -> None:
    """A file that is perhaps there is not taken for one that is not."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)  # as a folder that may not be searched: stat() fails, but not with "no such file"
    file = TokenFile(loop / "tokens.json", required=False)
    assert file.used
    with pytest.raises(UnauthenticatedError):
        file.check("anything")
