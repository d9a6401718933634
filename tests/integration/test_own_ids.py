"""User ids that trainings have to themselves: real processes under real ids, so only as root."""

import signal
import subprocess
import threading

import pytest

from app.embedding.confinement.limits import Limits
from app.embedding.confinement.own_ids import end_all_of, own_user_id
from app.embedding.confinement.sandbox import OWN_ID, find_confinement
from app.errors import Unavailable

LIMITS = Limits()

pytestmark = pytest.mark.skipif(OWN_ID not in (find_confinement().means or ()), reason="only root has user ids to give")


def test_two_trainings_never_have_the_same_id(tmp_path):
    with own_user_id(LIMITS.user_ids, []) as one, own_user_id(LIMITS.user_ids, []) as other:
        assert one != other
    with (
        pytest.raises(Unavailable, match="all taken"),
        own_user_id(range(one, one + 1), []),
        own_user_id(range(one, one + 1), []),
    ):
        pass


def test_ids_of_known_users_are_passed_over():
    with pytest.raises(Unavailable), own_user_id(range(1, 3), []):  # daemon and bin, wherever there are users at all
        pass


def test_what_still_runs_under_an_id_is_ended_before_the_next_training_has_it():
    user_id = LIMITS.user_ids[-1]
    hidden = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0); print(flush=True); time.sleep(600)"
    with subprocess.Popen(["/usr/bin/python3", "-c", hidden], user=user_id, stdout=subprocess.PIPE) as left:
        left.stdout.readline()
        threading.Timer(0.5, left.wait).start()
        end_all_of(user_id)
        assert left.wait() == -signal.SIGKILL


def test_what_a_killed_worker_left_is_ended_by_the_next_training_whatever_its_id():
    orphaned, held = LIMITS.user_ids[-2], LIMITS.user_ids[-3]
    command = ["/bin/sleep", "600"]
    with own_user_id(range(held, held + 1), []), subprocess.Popen(command, user=held) as working:
        with subprocess.Popen(command, user=orphaned) as left:
            threading.Timer(0.5, left.wait).start()
            with own_user_id(LIMITS.user_ids, []) as another:
                assert another not in (orphaned, held)
            assert left.wait() == -signal.SIGKILL
        assert working.poll() is None
        working.kill()
