import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import Malformed, PolicyRefused
from app.storage.secret_file import load_secret


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "log.key"
    assert load_secret(path, 32, create_from=b"a" * 32) == b"a" * 32
    assert load_secret(path, 32, create_from=b"b" * 32) == b"a" * 32
    assert load_secret(path, 32) == b"a" * 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_of_several_that_find_none_all_go_on_with_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: load_secret(tmp_path / "k", 1, create_from=bytes([n])), range(32)))
    assert len(set(made)) == 1


def test_a_missing_secret_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused, match="missing"):
        load_secret(tmp_path / "k", 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k"
    load_secret(path, 1, create_from=b"a")
    path.chmod(mode)
    with pytest.raises(PolicyRefused, match="may be read by others"):
        load_secret(path, 1)


@pytest.mark.parametrize("content", ["", "zz", "00", "00" * 33, "é"])
def test_a_damaged_secret_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "k"
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Malformed):
        load_secret(path, 32)
