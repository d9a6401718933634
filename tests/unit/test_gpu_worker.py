import stat

import pytest

from app.errors import PolicyRefused
from app.gpu_worker import load_queue_key, queue_of_hardware, run
from app.settings import Settings


def test_a_queues_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    first = load_queue_key(tmp_path / "keys", "embed.cpu")
    assert load_queue_key(tmp_path / "keys", "embed.cpu") == first
    assert stat.S_IMODE((tmp_path / "keys" / "embed.cpu.key").stat().st_mode) == 0o600


def test_each_queue_has_its_own_key(tmp_path):
    assert len({load_queue_key(tmp_path, queue).public for queue in ("embed.cpu", "embed.gpu")}) == 2


def test_the_queue_follows_the_hardware(tmp_path):
    (tmp_path / "nvidiactl").touch()
    assert queue_of_hardware(tmp_path) == "embed.cpu"
    (tmp_path / "nvidia0").touch()
    assert queue_of_hardware(tmp_path) == "embed.gpu"


def test_an_embedding_worker_takes_no_other_queues(tmp_path):
    with pytest.raises(PolicyRefused, match="'probe' is no embedding queue"):
        run(Settings(data_dir=tmp_path), ["embed.cpu", "probe"])
    assert not list(tmp_path.iterdir())
