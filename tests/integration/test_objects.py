import hashlib
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore

from app.errors import Malformed, NotFound, TooLarge
from app.storage.objects import download, get_bytes, iterate, open_store, path_of, put_bytes, put_stream, size_of

MIB = 1024 * 1024


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path}/objects" if request.param == "file" else "memory:///")


def paths(store: ObjectStore) -> list[str]:
    return [item["path"] for batch in obstore.list(store) for item in batch]


def pieces(count: int, fail_at: int | None = None) -> Iterator[bytes]:
    for index in range(count):
        if index == fail_at:
            raise ConnectionError("the client went away")
        yield bytes([index % 251]) * MIB


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20])
def test_a_stream_is_stored_under_its_digest(store: ObjectStore, count: int) -> None:
    expected = hashlib.sha256(b"".join(pieces(count))).digest()
    assert put_stream(store, pieces(count), 20 * MIB) == (expected, count * MIB)
    assert paths(store) == [path_of(expected)]
    assert hashlib.sha256(b"".join(iterate(store, expected))).digest() == expected


def test_a_digest_names_its_folder_by_its_first_byte() -> None:
    assert path_of(bytes.fromhex("ab" + "cd" * 31)) == "sha256/ab/" + "cd" * 31


@pytest.mark.parametrize("limit", [MIB - 1, 19 * MIB])
def test_a_stream_over_its_limit_leaves_nothing(store: ObjectStore, tmp_path: Path, limit: int) -> None:
    with pytest.raises(TooLarge):
        put_stream(store, pieces(20), limit)
    assert paths(store) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_stream_of_exactly_its_limit_is_stored(store: ObjectStore) -> None:
    assert put_stream(store, pieces(2), 2 * MIB)[1] == 2 * MIB


def test_a_client_that_goes_away_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        put_stream(store, pieces(20, fail_at=17), 100 * MIB)
    assert paths(store) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_stream_over_its_limit_is_not_read_to_its_end(store: ObjectStore) -> None:
    given = iter(pieces(200))
    with pytest.raises(TooLarge):
        put_stream(store, given, MIB)
    assert sum(1 for _ in given) >= 190


def test_the_same_bytes_are_stored_once(store: ObjectStore) -> None:
    assert put_bytes(store, b"same") == put_bytes(store, b"same") == put_stream(store, [b"sa", b"me"], 10)[0]
    assert len(paths(store)) == 1


def test_an_object_that_is_not_there_is_not_found(store: ObjectStore, tmp_path: Path) -> None:
    for read in (size_of, lambda *at: get_bytes(*at, 10), lambda *at: list(iterate(*at))):
        with pytest.raises(NotFound):
            read(store, bytes(32))
    with pytest.raises(NotFound):
        download(store, bytes(32), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_damaged_object_is_not_handed_out_as_whole(store: ObjectStore, tmp_path: Path) -> None:
    sha256 = put_bytes(store, b"whole")
    obstore.put(store, path_of(sha256), b"whols")
    with pytest.raises(Malformed):
        get_bytes(store, sha256, 10)
    with pytest.raises(Malformed):
        download(store, sha256, tmp_path / "file")
    assert list(tmp_path.glob("file*")) == []


def test_an_object_over_the_readers_limit_is_refused(store: ObjectStore) -> None:
    sha256 = put_bytes(store, b"12345")
    assert get_bytes(store, sha256, 5) == b"12345"
    with pytest.raises(TooLarge):
        get_bytes(store, sha256, 4)


def test_a_download_is_the_file_whole(store: ObjectStore, tmp_path: Path) -> None:
    sha256, _ = put_stream(store, pieces(9), 9 * MIB)
    download(store, sha256, tmp_path / "file")
    assert hashlib.sha256((tmp_path / "file").read_bytes()).digest() == sha256
