"""Run a file of tests as an ordinary user, from root: what the confinement gives such a user is then tested too."""

import os
import subprocess
import sys
from pathlib import Path

from app.embedding.confinement.sandbox import OWN_ID, PACKAGE, ROOT, SYSTEM_PLACES, Sandbox

NOBODY = 65_534

CODE = "import os, sys, pytest; os.chdir(sys.argv[1]); sys.exit(pytest.main(sys.argv[2:]))"


def run_as_ordinary_user(folder: Path, *tests: Path | str) -> "subprocess.CompletedProcess[str]":
    """Run pytest under another user id, in a file system of its own, because Python may lie where only root may look.

    Nothing else of the confinement is applied, so that these tests can apply it.
    """
    home = folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    places = [*map(Path, SYSTEM_PLACES), Path(sys.prefix), Path(sys.base_prefix), PACKAGE, ROOT / "tests"]
    sandbox = Sandbox(
        means=frozenset({OWN_ID}),
        readable=tuple(places),
        listed=(),
        devices=(Path("/dev/null"), Path("/dev/urandom")),
        writable=(home,),
        several_processes=False,
        user_id=NOBODY,
        shared_memory_bytes=64 * 1024**2,
    )
    wrapper = [sys.executable, "-m", "app.embedding.confinement.confined", sandbox.to_json(), "--"]
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "--import-mode=importlib", "--rootdir", str(ROOT)]
    command = [sys.executable, "-c", CODE, str(ROOT), *options, f"--basetemp={home}/tests", *map(str, tests)]
    environment = {"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(home)}
    return subprocess.run(
        [*wrapper, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
