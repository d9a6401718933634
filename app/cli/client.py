"""The service's API as a vendor's machine sees it.

Everything secret stays on this side: keys are used here and only signatures, commitments and openings leave. What the
service says is believed only where the log's key signed it.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx2

from app.canonical import encode_json
from app.errors import ProofError, TrapstreetError, Unavailable
from app.keys.statement import Statement
from app.merkle.checkpoint import Checkpoint, parse_verifier_key
from app.merkle.receipt import parse_receipt, verify_receipt
from app.merkle.tree import verify_consistency
from app.protocol.assessment import Logged
from app.protocol.records import FilingRecord, parse_entry
from app.signature import public_key_of, sign

# Uploads and probes of a busy service take their time; nothing here waits for training or probing to end.
TIMEOUT_SECONDS = 60.0
UPLOAD_CHUNK_BYTES = 1024 * 1024


class ApiProblem(TrapstreetError):
    """The service refused a call; `code`, `state` and the message are its own."""

    code: ClassVar[str] = "api_problem"

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        """Keep what the problem document says."""
        message, pointer = _fault_of(problem)
        super().__init__(
            message or f"the service answered with status {status}",
            pointer=pointer,
            state=str(problem.get("state", "")),
        )
        self.status = status
        self.problem = problem
        self.problem_code = str(problem.get("code", ""))


def _fault_of(problem: dict[str, Any]) -> tuple[str, str]:
    """Give what is wrong, each thing once, and the pointer to it if it is one thing."""
    errors = problem.get("errors")
    named = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    faults = [(str(error.get("message", "")), str(error.get("pointer", ""))) for error in named]
    match faults:
        case []:
            return str(problem.get("detail") or problem.get("title") or ""), ""
        case [fault]:
            return fault
        case _:
            return "; ".join(f"{message} (at {pointer})" if pointer else message for message, pointer in faults), ""


class LogView:
    """The log under a pinned key: every entry read through it is proven to be in it, and it never shrinks or forks."""

    def __init__(self, client: httpx2.Client, origin: str, log_key: bytes) -> None:
        self._client = client
        self.origin = origin
        self.log_key = log_key
        self._seen: Checkpoint | None = None

    def entry(self, index: int) -> Logged:
        """Read an entry and verify its receipt.

        Raises: ProofError if the service cannot prove it.
        """
        data = _ask(self._client, "GET", f"/v1/log/entries/{index}").content
        receipt = _ask(self._client, "GET", f"/v1/log/entries/{index}/receipt").content
        self.verify(index, data, receipt)
        return Logged(index, parse_entry(data), data)

    def verify(self, index: int, data: bytes, receipt: bytes) -> Checkpoint:
        """Verify an entry's receipt and that its checkpoint extends every earlier one seen.

        Raises: ProofError.
        """
        parsed = parse_receipt(receipt)
        if parsed.index != index:
            raise ProofError(f"asked for entry {index}, got a receipt for entry {parsed.index}")
        checkpoint = verify_receipt(parsed, data, self.log_key, self.origin)
        self._follow(checkpoint)
        return checkpoint

    def _follow(self, checkpoint: Checkpoint) -> None:
        old, new = self._seen or checkpoint, checkpoint
        if old.size > new.size:
            old, new = new, old
        if old.size != new.size:
            params = {"from": old.size, "to": new.size}
            answer = _ask(self._client, "GET", "/v1/log/consistency", params=params).json()
            path = [bytes.fromhex(item) for item in answer["path"]]
            verify_consistency(old.size, old.root, new.size, new.root, path)
        elif old.root != new.root:
            raise ProofError(f"the log shows two trees of size {new.size}")
        self._seen = new


class ApiClient:
    """One vendor's connection; use as a context manager."""

    def __init__(self, url: str, api_key: str = "", log_key: str = "") -> None:
        """Connect to `url`; `log_key` is the log's verifier key, pinned, or "" to believe the service's own word."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)
        self.api_key = api_key
        self._pinned = log_key
        self._log: LogView | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @property
    def log(self) -> LogView:
        """Give the log under the pinned key, or under the key that the service names."""
        if self._log is None:
            text = self._pinned or self.text("/v1/log/key").strip()
            origin, key = parse_verifier_key(text)
            self._log = LogView(self._http, origin, key)
        return self._log

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Read a resource.

        Raises: ApiProblem; Unavailable if the service does not answer.
        """
        return self._call("GET", path, params=params).json()  # type: ignore[no-any-return]

    def text(self, path: str) -> str:
        """Read a text resource."""
        return self._call("GET", path).text

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a JSON body and give the answer's."""
        return self._call("POST", path, json=body or {}).json()  # type: ignore[no-any-return]

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Replace a resource and give the answer."""
        return self._call("PUT", path, json=body).json()  # type: ignore[no-any-return]

    def items(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Read a whole collection, page by page."""
        while True:
            page = self.get(path, **params)
            yield from page["items"]
            if not page["next_cursor"]:
                return
            params["cursor"] = page["next_cursor"]

    def upload(self, path: Path, media_type: str = "application/octet-stream") -> str:
        """Upload a file as an artifact and give its SHA-256 in hex."""

        def chunks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(UPLOAD_CHUNK_BYTES):
                    yield chunk

        answer = self._call("POST", "/v1/artifacts", content=chunks(), headers={"Content-Type": media_type})
        return str(answer.json()["sha256"])

    def download(self, path: str) -> bytes:
        """Download a resource whole."""
        return self._call("GET", path).content

    def _call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return _ask(self._http, method, path, **options)


# Answers that say "later": too many requests, and whatever is wrong on the service's own side.
LATER = frozenset({429, 500, 502, 503, 504})


def _ask(http: httpx2.Client, method: str, path: str, **options: Any) -> httpx2.Response:
    try:
        response = http.request(method, path, **options)
    except httpx2.TransportError as error:
        raise Unavailable(f"the service at {http.base_url} does not answer: {error}") from error
    if response.is_success:
        return response
    problem = _problem_of(response)
    if response.status_code in LATER:
        why = _fault_of(problem)[0] or "no reason given"
        said = f"the service at {http.base_url} answers with status {response.status_code}: {why}"
        raise Unavailable(f"{said}; try again later")
    raise ApiProblem(response.status_code, problem)


def _problem_of(response: httpx2.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        # A proxy's page, for instance: what it says is for a browser.
        return {}
    return problem if isinstance(problem, dict) else {}


def register_vendor(client: ApiClient, name: str, contact: str, private_key: bytes) -> dict[str, Any]:
    """Register as a vendor, proving possession of the private key; the answer holds the first API key, shown once."""
    challenge = str(client.post("/v1/vendors/challenges")["challenge"])
    claim = {"challenge": challenge, "contact": contact, "name": name, "public_key": public_key_of(private_key).hex()}
    signature = sign(private_key, encode_json({"type": "trapstreet/v1/vendor-registration", **claim}))
    return client.post("/v1/vendors", {**claim, "signature": signature.hex()})


def register_statement(client: ApiClient, statement: Statement, private_key: bytes) -> dict[str, Any]:
    """Register a statement and verify the receipt under the log's key before believing it.

    Raises: ProofError if the receipt does not prove exactly this statement.
    """
    data = statement.encode()
    answer = client.post("/v1/registrations", {"statement": data.decode(), "signature": sign(private_key, data).hex()})
    entry = answer["entry"].encode()
    client.log.verify(answer["entry_index"], entry, answer["receipt"].encode())
    logged = parse_entry(entry).to_json()
    if logged.get("statement") != statement.to_json():
        raise ProofError("the receipt is for another statement than the one sent")
    return answer


def file_dispute(
    client: ApiClient, suspect_id: str, record: FilingRecord, private_key: bytes, covers: str | None
) -> dict[str, Any]:
    """Sign and file a dispute; `covers` is the SHA-256 of an uploaded cover set."""
    data = record.encode()
    return client.post(
        "/v1/disputes",
        {
            "suspect_id": suspect_id,
            "record": data.decode(),
            "signature": sign(private_key, data).hex(),
            "covers": covers,
        },
    )


def base64_text(data: bytes) -> str:
    """Write bytes as the base64 that the API takes."""
    return base64.b64encode(data).decode()
