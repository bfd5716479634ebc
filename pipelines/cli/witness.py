"""The command that runs a witness of other parties' logs."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import disk
from pipelines.cli import options
from pipelines.clock import utc_now
from pipelines.errors import ConfigurationError
from pipelines.integrity import cosignatures
from pipelines.integrity.cosignatures import CosigningKey
from pipelines.integrity.witness import protocol, state

if TYPE_CHECKING:
    import uvicorn

_CONNECTIONS = 64


@click.command(name="witness")
@click.option(
    "--key",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file of its private key; made at the first start.",
)
@click.option(
    "--state",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder of the checkpoints it has cosigned. Back it up like the key.",
)
@click.option("--listen", default="127.0.0.1:8780", show_default=True, metavar="HOST:PORT")
@click.option(
    "--log", "logs", metavar="VKEY", multiple=True, help="The public key of a log; repeatable."
)
@click.option("--name", help="The name in a new key, such as witness.example.com/w1.")
@click.option(
    "--accept",
    "accepted",
    metavar="ORIGIN",
    multiple=True,
    help="Another log of a table that has one already, as after a lake was made again; repeatable.",
)
@options.log_format
@click.pass_context
def witness_(
    context: click.Context,
    *,
    file: Path,
    folder: Path,
    listen: str,
    logs: tuple[str, ...],
    name: str | None,
    accepted: tuple[str, ...],
) -> None:
    """Cosign checkpoints of logs that only grow, so that nobody is shown another view of them.

    Run it on a machine of another party than the log's, behind a proxy that terminates TLS. It
    needs no configuration file and no lake.
    """
    if not logs:
        raise ConfigurationError("no log is known: pass its public key with --log VKEY")
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal():
        raise ConfigurationError(f"--listen {listen}: give HOST:PORT, such as 127.0.0.1:8780")
    key = _key(file, folder, name)
    announce = options.announcer(context)
    with state.opened(folder) as opened:
        witness = protocol.Witness(key, logs, opened, lambda: int(utc_now().timestamp()), accepted)
        announce(key.vkey)
        options.announcer(context, err=True)(f"listening on http://{listen}; press Ctrl-C to stop")
        _serve(witness, host.strip("[]"), int(port))


def _key(file: Path, folder: Path, name: str | None) -> CosigningKey:
    """Return the key in a file, which is made if it is missing. Raises ConfigurationError."""
    if file.exists():
        if file.stat().st_mode & 0o077:
            raise ConfigurationError(f"{file}: readable by others: chmod 600 it, or make a new key")
        if not folder.exists():
            raise ConfigurationError(
                f"{folder}: missing, but the key may have cosigned logs: restore the state; if it "
                "never has, create the folder"
            )
        return cosignatures.read_key(file.read_text(encoding="utf-8"))
    if name is None:
        raise ConfigurationError(f"{file}: missing: give the witness a name with --name to make it")
    key = cosignatures.new_key(name)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.write_atomically(file, f"{key.secret}\n".encode(), overwrite=False)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}: choose a writable place") from None
    return key


def config(witness: protocol.Witness, host: str, port: int) -> uvicorn.Config:
    """Return the configuration of the server, with deadlines and limits."""
    from pipelines.integrity.witness.app import app  # noqa: PLC0415 slow to import, for one command
    from pipelines.webhooks import server  # noqa: PLC0415
    from pipelines.webhooks.receiver import Limits  # noqa: PLC0415

    limits = Limits(body=protocol.MAX_BYTES, connections=_CONNECTIONS)
    return server.limited(app(witness), limits, host=host, port=port)


def _serve(witness: protocol.Witness, host: str, port: int) -> None:
    """Answer requests until interrupted."""
    import uvicorn  # noqa: PLC0415

    server = uvicorn.Server(config(witness, host, port))
    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        server.run()
