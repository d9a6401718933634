"""The commands `people ...`: how an operator lets people in, with the database at hand.

A vendor that registered by the command line has no people yet, and who lost every passkey and code has no way in: for
both the operator makes a one-time link. What the commands run is imported when they run.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.cli.output import JsonFlag, reported, show
from app.errors import Malformed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.settings import Settings

people = typer.Typer(name="people", help="How an operator lets people into the portal.", no_args_is_help=True)


@people.command()
def link(
    name: Annotated[str, typer.Option(help="Make a new person of this name.")] = "",
    person: Annotated[str, typer.Option(help="Or the id of somebody who is known; `people list` shows it.")] = "",
    vendor: Annotated[str, typer.Option(help="Id of a vendor that the person is to act for from now on.")] = "",
    role: Annotated[str, typer.Option(help="As what: owner, engineer or auditor.")] = "owner",
    as_json: JsonFlag = False,
) -> None:
    """Make a link that signs a person in once, within 30 minutes; whoever has it is that person."""
    from app.people.links import LIFETIME, make_link
    from app.people.persons import PERSON_RANDOM_BYTES, add_member, load_person, make_person
    from app.people.tokens import TOKEN_BYTES

    with reported(as_json=as_json):
        if bool(name) == bool(person):
            raise Malformed("give --name for a new person, or --person for one who is known")
        if name and not vendor:
            raise Malformed("give --vendor, too: a new person would act for nobody")
        now = datetime.now(UTC)  # noqa: TID251  # a command is an entry point
        with _database() as (session, settings):
            if name:
                person_id = make_person(session, name, secrets.token_bytes(PERSON_RANDOM_BYTES), now).id
            else:
                person_id = load_person(session, _id(person, "/person")).id
            if vendor:
                add_member(session, person_id, _id(vendor, "/vendor"), role, now)
            text = make_link(session, person_id, secrets.token_bytes(TOKEN_BYTES), now)
        address = f"{settings.portal_address}/sign-in/{text}"
        minutes = int(LIFETIME.total_seconds() // 60)
        told = {"link": address, "person": str(person_id), "minutes": minutes}
        show(told, as_json=as_json, text=f"{address}\ngood once, for {minutes} minutes; person {person_id}")


@people.command(name="list")
def list_people(
    vendor: Annotated[str, typer.Argument(help="The vendor's id.")],
    as_json: JsonFlag = False,
) -> None:
    """Show who acts for a vendor: ids, names, roles."""
    from app.people.persons import list_members

    with reported(as_json=as_json), _database() as (session, _settings):
        found = list_members(session, _id(vendor, "/vendor"))
        told = [{"id": str(person.id), "name": person.name, "role": member.role} for person, member in found]
    lines = [f"{row['id']}  {row['role']:8}  {row['name']}" for row in told]
    show({"people": told}, as_json=as_json, text="\n".join(lines) or "nobody acts for this vendor")


@contextmanager
def _database() -> Iterator[tuple["Session", "Settings"]]:
    # Beside a service that runs, its own Postgres is joined, not started.
    from app.db.engine import make_engine, transaction
    from app.settings import load_settings, open_database

    settings = load_settings()
    with open_database(settings) as urls:
        engine = make_engine(urls.service, application="trapstreet people")
        try:
            with transaction(engine) as session:
                yield session, settings
        finally:
            engine.dispose()


def _id(text: str, pointer: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Malformed("this is no id", pointer=pointer) from None
