"""Real model servers on loopback, each in a virtual environment of its own under `.trapstreet/interop/`.

An environment is made from `servers/NAME/requirements.txt` the first time and kept; one whose requirements changed is made
anew. A server that cannot be installed is skipped, and says why.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import pytest

HERE = Path(__file__).parent / "servers"
ENVIRONMENTS = Path(__file__).parents[2] / ".trapstreet" / "interop"

# From process to first answer: the slowest took 45 s on two idle cores.
START_SECONDS = 240


@dataclass(frozen=True)
class Launch:
    """What starts a server: arguments of its Python, environment, and a path that answers 200 when it is ready."""

    arguments: Sequence[str]
    ready: str
    environment: dict[str, str]
    prepare: Sequence[str] = ()


def launch_of(name: str, port: int, folder: Path, weights: Path) -> Launch:
    """Say how a server is started on this port; it may write into the folder."""
    program = [str(HERE / name / "server.py"), str(port)]
    match name:
        case "kserve":
            return Launch(program, "/v2/health/ready", {})
        case "litserve":
            return Launch(program, "/health", {})
        case "gradio":
            return Launch(program, "/gradio_api/info", {"GRADIO_ANALYTICS_ENABLED": "False"})
        case "ray_serve":
            return Launch(program, "/-/healthz", {"RAY_USAGE_STATS_ENABLED": "0"})
        case "bentoml":
            serve = ["-m", "bentoml", "serve", "service:Digits", "--host", "127.0.0.1", "--port", str(port)]
            return Launch(
                [*serve, "--working-dir", str(HERE / name)],
                "/readyz",
                {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder)},
            )
        case "mlflow":
            model = str(folder / "model")
            serve = ["-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-h", "127.0.0.1"]
            return Launch(
                [*serve, "-p", str(port)],
                "/ping",
                {"MLFLOW_DISABLE_TELEMETRY": "true"},
                prepare=[str(HERE / name / "save.py"), model],
            )
        case "mlserver":
            ports = {"HTTP": port, "GRPC": free_port(), "METRICS": free_port()}
            settings = {f"MLSERVER_{kind}_PORT": str(value) for kind, value in ports.items()}
            return Launch(
                ["-c", "from mlserver.cli import main; main()", "start", str(HERE / name)],
                "/v2/models/digits/ready",
                {**settings, "MLSERVER_HOST": "127.0.0.1", "MLSERVER_PARALLEL_WORKERS": "0"},
            )
        case _:
            return _torchserve(port, folder, weights)


def _torchserve(port: int, folder: Path, weights: Path) -> Launch:
    addresses = {"inference": port, "management": free_port(), "metrics": free_port()}
    lines = [f"{kind}_address=http://127.0.0.1:{value}" for kind, value in addresses.items()]
    lines += ["default_workers_per_model=1", "disable_token_authorization=true", "enable_envvars_config=false"]
    (folder / "config.properties").write_text("\n".join(lines) + "\n")
    (folder / "digits.safetensors").write_bytes(weights.read_bytes())
    archive = ["-m", "model_archiver.model_packaging", "--model-name", "digits", "--version", "1.0", "-f"]
    archive += ["--handler", str(HERE / "torchserve" / "handler.py"), "--export-path", str(folder)]
    archive += ["--extra-files", f"{HERE / 'net.py'},{folder / 'digits.safetensors'}"]
    serve = ["-m", "ts.model_server", "--start", "--foreground", "--ncs", "--disable-token-auth"]
    serve += ["--model-store", str(folder), "--models", "digits=digits.mar"]
    return Launch(
        [*serve, "--ts-config", str(folder / "config.properties")],
        "/ping",
        {"LOG_LOCATION": str(folder), "METRICS_LOCATION": str(folder), "TEMP": str(folder)},
        prepare=archive,
    )


def python_of(name: str) -> Path:
    """Give the Python of a server's environment, made first if need be; skip the test where that fails."""
    folder, wanted = ENVIRONMENTS / name, HERE / name / "requirements.txt"
    made_from = folder / "made-from.txt"
    if not made_from.exists() or made_from.read_text() != wanted.read_text():
        rmtree(folder, ignore_errors=True)
        python = folder / "bin" / "python"
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", str(wanted)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{name} cannot be installed here: {done.stderr.strip()[-500:]}")
        made_from.write_text(wanted.read_text())
    return folder / "bin" / "python"


@contextmanager
def running(name: str, folder: Path, weights: Path) -> Iterator[str]:
    """Start a server, wait until it is ready, give its URL, and end it with all its children."""
    # Ray's sockets lie in its temporary folder, and their paths must be short.
    with (
        TemporaryDirectory(prefix="served", ignore_cleanup_errors=True) as short,
        _started(name, folder, weights, short) as url,
    ):
        yield url


@contextmanager
def _started(name: str, folder: Path, weights: Path, short: str) -> Iterator[str]:
    python, port = python_of(name), free_port()
    launch = launch_of(name, port, folder, weights)
    environment = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TMPDIR": short,
        "RAY_TMPDIR": short,
        "PYTHONPATH": f"{HERE}:{HERE / name}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DIGITS_WEIGHTS": str(weights),
        "OMP_NUM_THREADS": "1",
        **launch.environment,
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        if launch.prepare:
            subprocess.run(
                [python, *launch.prepare], cwd=folder, env=environment, stdout=output, stderr=output, check=True
            )
        process = subprocess.Popen(
            [python, *launch.arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url + launch.ready, process, log)
        yield url
    finally:
        _end(process)


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            # Its own session, which we made: the server and its workers, and nobody else.
            os.killpg(process.pid, number)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    process.wait(20)


def free_port() -> int:
    """Find a port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
