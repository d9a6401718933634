"""A mail server that takes what it is sent, as far as our mail needs one; with TLS if it is given a certificate.

No library: aiosmtpd, the usual one, had its last release in May 2024.
"""

import contextlib
import socketserver
import ssl
import threading
from typing import Any, cast


class MailServer:
    """A running server; `answers` replaces its answer to a command, such as {"RCPT": "550 unknown"}."""

    def __init__(self, answers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answers = answers or {}
        self.tls = tls
        self.mails: list[bytes] = []
        self.commands: list[str] = []

    def __enter__(self) -> "MailServer":
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), _Conversation)
        cast("Any", self._server).simulator = self
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Conversation(socketserver.StreamRequestHandler):
    timeout = 5

    def handle(self) -> None:
        # Clients that break off in the middle are part of the tests.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            self.converse(cast("Any", self.server).simulator)

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def converse(self, simulator: MailServer) -> None:
        self.say(simulator.answers.get("HELLO", "220 ready"))
        while line := self.rfile.readline():
            command = line.decode("ascii").strip()
            simulator.commands.append(command)
            word = command.partition(" ")[0].upper()
            answer = simulator.answers.get(word)
            if answer is not None:
                self.say(answer)
            elif word == "EHLO":
                self.say("250-here\r\n250 STARTTLS" if simulator.tls else "250 here")
            elif word == "STARTTLS" and simulator.tls:
                self.say("220 go on")
                # Kept before it shakes hands, so that it is closed if they do not.
                self.connection = simulator.tls.wrap_socket(
                    self.connection, server_side=True, do_handshake_on_connect=False
                )
                self.connection.do_handshake()
                self.rfile.close()
                self.rfile = self.connection.makefile("rb")
            elif word == "DATA":
                self.say("354 end with a dot")
                simulator.mails.append(self.read_mail())
                self.say("250 taken")
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def say(self, text: str) -> None:
        self.connection.sendall(text.encode() + b"\r\n")

    def read_mail(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return b"".join(lines)
