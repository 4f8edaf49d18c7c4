"""Take the pictures of docs/inbox: every state of the inbox, over conversations that are made up here.

    python scripts/inbox_pictures.py [FOLDER]

It needs the Chromium that the tests use, or the one that RECOLLECT_TEST_CHROMIUM names.
"""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from recollect import Agent, Message, ModelError, SqliteDb, Team, Usage
from recollect.port import Delta, ModelRequest, Reply, World
from recollect.server import Caller, create_app, serve
from recollect.testing import FrozenClock

FOLDER = Path(__file__).parent.parent / "docs" / "inbox"
COLOURS = 255
LARGEST = 150_000
PAUSED = 20
"""The question of the long conversation after which somebody went away for a while."""
WIDE = {"width": 1280, "height": 820}
NARROW = {"width": 375, "height": 740}

PLAN = """## Two days in Porto

| Day | Morning | Evening |
|---|---|---|
| Saturday | Ribeira and the **Dom Luís** bridge | Port lodges in Gaia |
| Sunday | Serralves museum | Fado at Casa da Guitarra |

> Take an umbrella on Sunday: rain is likely after four.

The hills can be avoided: tram 22 and the funicular do the climbing.
"""

SCRIPT = """Both fit into one request. This reads the forecast and keeps the dry hours:

```python
def dry_hours(forecast: list[Hour], limit: float = 0.2) -> list[Hour]:
    return [hour for hour in forecast if hour.rain < limit]
```

1. Ask once a day, the forecast does not change more often.
2. Keep `limit` in the settings: a tram needs less sun than a terrace.
"""

SHORT = [
    ("ada", "Seat by the Window", "Can I have a seat by the window?", "Yes: 14A is yours now."),
    ("bob", "Vegetarian Menu", "Is there a vegetarian menu on board?", "Yes, it has to be ordered a day ahead."),
    ("cleo", "", "How much luggage may I take along?", "One bag of 23 kg, and one small one to the cabin."),
    ("dan", "Invoice for March", "I need the invoice of my trip in March.", "It is on its way to your address."),
    (
        "eve",
        "",
        "does the night train to Vienna have beds",
        "It has couchettes for four and six, and a few compartments.",
    ),
    ("finn", "Dog on the Ferry", "May my dog come on the ferry?", "On a leash, and in the cabins of deck 5."),
    ("gwen", "", "Cancel the hotel in Braga, please", "Done. The deposit comes back within five days."),
    ("hugo", "Passport Expires Soon", "My passport expires in May. Can I fly in April?", "Within the EU you can."),
    (
        "iris",
        "Wheelchair at the Gate",
        "My father needs a wheelchair at the gate.",
        "It is booked for gate B12 at 9:40.",
    ),
    ("jan", "", "Which app shows the tram times?", "The city's own one; it works without an account."),
]


class Scripted:
    """Gives the answers it was given, one after the other; None fails as a provider does."""

    id = "gpt-5.2"
    provider = "openai"

    def __init__(self, *answers: Message | str | None) -> None:
        self._answers = list(answers)

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        del request
        await world.sleep(0.1)
        answer = self._answers.pop(0)
        if answer is None:
            msg = "the provider answered 529: overloaded"
            raise RuntimeError(msg)
        yield Reply(answer if isinstance(answer, Message) else Message("assistant", answer), Usage(412, 168))


class Slow:
    """Says one thing slowly, as the answer that is looked at while it comes."""

    id = "gpt-5.2"
    provider = "openai"

    async def ask(self, request: ModelRequest, world: World) -> AsyncIterator[Delta | Reply]:
        if request.purpose != "answer":
            await world.sleep(0.4)
            yield Reply(Message("assistant", "A Question About Trains"), Usage(120, 6))
            return
        for piece in SCRIPT.split(" "):
            await world.sleep(0.1)
            yield Delta(f"{piece} ")
        yield Reply(Message("assistant", SCRIPT), Usage(400, 120))


def weather(city: str) -> str:
    """Tell the weather of the weekend.

    Args:
        city: where
    """
    if city == "Atlantis":
        msg = "no such city: Atlantis"
        raise ValueError(msg)
    days = [{"day": "Saturday", "high": 21, "rain": 0.1}, {"day": "Sunday", "high": 19, "rain": 0.4}]
    return json.dumps({"city": city, "days": days})


def call(id: str, name: str, **arguments: str) -> dict[str, Any]:
    """A tool call as a model makes it."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def fill(path: str) -> None:
    """Write the conversations, as if they had been held over the last days."""
    now = datetime.now(UTC)
    clock = FrozenClock(now - timedelta(days=9))
    with SqliteDb(path, clock=clock, durability="normal") as db:
        _many(db, clock)
        clock.tick((now - timedelta(hours=27)).timestamp() - clock.now() / 1e6)
        _long(db, clock)
        _failed(db)
        _away(db)
        clock.tick((now - timedelta(minutes=40)).timestamp() - clock.now() / 1e6)
        _team(db)
        clock.tick(900)
        _tools(db, clock)


def _many(db: SqliteDb, clock: FrozenClock) -> None:
    for number in range(60):
        user, name, asked, answer = SHORT[number % len(SHORT)]
        agent = Agent(Scripted(answer), id="desk", name="Travel desk", db=db)
        agent.run(asked, session_id=f"desk-{number}", user_id=user)
        if name:
            db.set_session_name(f"desk-{number}", name, user)
        clock.tick(11_400)


def _long(db: SqliteDb, clock: FrozenClock) -> None:
    agent = Agent(Scripted(*[SCRIPT, "Then the small one will do."] * 13), id="desk", name="Travel desk", db=db)
    for number in range(26):
        agent.run(f"Question {number + 1}: how do I find the dry hours of a day?", session_id="dry", user_id="ada")
        clock.tick(5_400 if number == PAUSED else 40)
    db.set_session_name("dry", "Dry Hours for the Terrace", "ada")


def _failed(db: SqliteDb) -> None:
    agent = Agent(Scripted("For how many people?", None), id="desk", name="Travel desk", db=db)
    agent.run("I would like a table by the river.", session_id="river", user_id="bob")
    try:
        agent.run("For six, on Saturday at eight.", session_id="river", user_id="bob")
    except ModelError:
        db.set_session_name("river", "Table by the River", "bob")


def _away(db: SqliteDb) -> None:
    agent = Agent(Scripted("Row 3, seats 4 and 5."), id="opera", name="Opera desk", db=db)
    agent.run("Which seats do we have on Friday?", session_id="away", user_id="dan")
    db.set_session_name("away", "Seats on Friday", "dan")


def _team(db: SqliteDb) -> None:
    rail = Agent(Scripted("Trains leave every hour, on the hour; **10:00** is direct."), id="rail", name="Rail", db=db)
    costs = Agent(Scripted("About 240 euros: 120 for the train, 120 for the room."), id="costs", name="Costs", db=db)
    asked = [
        call("d1", "delegate_task_to_member", member_id="rail", task="When do trains to Lisbon leave?"),
        call("d2", "delegate_task_to_member", member_id="costs", task="What does a night in Lisbon cost?"),
    ]
    model = Scripted(
        Message("assistant", "", tool_calls=asked), "Take the **10:00 train**; it is about 240 euros in all."
    )
    crew = Team([rail, costs], model=model, id="crew", name="Travel crew", db=db)
    crew.run("How do I get to Lisbon, and what does it cost?", session_id="lisbon", user_id="cleo")
    db.set_session_name("lisbon", "Lisbon by Train", "cleo")


def _tools(db: SqliteDb, clock: FrozenClock) -> None:
    asked = [call("c1", "weather", city="Porto"), call("c2", "weather", city="Atlantis")]
    thought = "The weather decides between the river and the museums."
    first = Message("assistant", "Let me look at the weather first.", tool_calls=asked, reasoning_content=thought)
    agent = Agent(Scripted(first, PLAN), id="desk", name="Travel desk", db=db, tools=[weather])
    agent.run(
        "Plan two days in Porto for my mother, who likes music and hates hills.", session_id="porto", user_id="ada"
    )
    clock.tick(60)
    db.set_session_name("porto", "Porto for Mother", "ada")
    db.tag_session("porto", ["travel", "vip"])
    db.update_values("porto", "metadata", {"assignee": "sam", "ticket": "https://tickets.example/T-42"})
    db.pin_session("porto")


def serving(path: str, told: Connection) -> None:
    """Serve the conversations to somebody who may do everything, and to somebody who has none."""
    db = SqliteDb(path)
    desk = Agent(Slow(), id="desk", name="Travel desk", db=db)
    crew = Team([desk], model=Slow(), id="crew", name="Travel crew", db=db)
    everybody = {"everything": Caller("sam", frozenset({"admin"})), "nothing": Caller("newcomer")}
    serve(create_app([desk], [crew], auth=everybody), port=0, on_start=told.send)


@contextmanager
def served(path: str) -> Generator[str]:
    """The address of the inbox."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serving, args=(path, there))
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


Shot = Callable[[Page, str], None]


def _session(session_id: str, *folds: str) -> Shot:
    def show(page: Page, url: str) -> None:
        page.goto(f"{url}/s/{session_id}")
        page.evaluate("document.querySelector('#scroll').scrollTop = 0")
        for fold in folds:
            page.locator(fold).first.click()

    return show


def _list(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#unnamed")).to_contain_text("unnamed")


def _long_transcript(page: Page, url: str) -> None:
    page.goto(f"{url}/s/dry")
    page.evaluate("localStorage.setItem('seen:dry', '24')")
    page.reload()
    expect(page.locator(".news")).to_be_visible()


def _search(page: Page, url: str) -> None:
    page.goto(f"{url}/s/lisbon")
    page.fill("#q", "train")
    expect(page.locator("mark").first).to_be_visible()
    page.locator(".hit").first.click()
    expect(page.locator(".is-found")).to_be_visible()


def _filters(page: Page, url: str) -> None:
    page.goto(f"{url}/?tag=travel&assignee=sam")
    page.get_by_title("Filters").click()


def _more(page: Page, url: str) -> None:
    page.goto(f"{url}/s/porto")
    page.locator("#more > summary").click()


def _palette(page: Page, url: str) -> None:
    page.goto(f"{url}/s/porto")
    page.keyboard.press("Control+k")
    page.keyboard.type("p")
    expect(page.get_by_role("option", name="Pin, or let go")).to_be_visible()
    page.keyboard.type("ort")
    expect(page.get_by_role("option", name="Porto for Mother").first).to_be_visible()


def _help(page: Page, url: str) -> None:
    page.goto(f"{url}/s/porto")
    page.keyboard.press("?")


def _streaming(page: Page, url: str) -> None:
    page.goto(f"{url}/new")
    page.fill("#message", "When does it stop raining on **Saturday**?")
    page.keyboard.press("Enter")
    expect(page.locator(".pending .answer pre").first).to_be_visible(timeout=20_000)


def _deleted(page: Page, url: str) -> None:
    page.goto(f"{url}/s/desk-58")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".toast")).to_be_visible()
    expect(page.locator("[data-session=desk-58]")).to_have_count(0)


def _naming(page: Page, url: str) -> None:
    _list(page, url)
    page.get_by_role("button", name="Name them").click()
    expect(page.locator("#unnamed progress")).to_be_visible()
    page.wait_for_timeout(600)


def _sign_in(page: Page, url: str) -> None:
    page.goto(f"{url}/sign-in")


def _plain(path: str = "/") -> Shot:
    def show(page: Page, url: str) -> None:
        page.goto(url + path)

    return show


SHOTS: dict[str, tuple[Shot, str, dict[str, Any]]] = {
    "sign-in": (_sign_in, "", {}),
    "empty": (_plain(), "nothing", {}),
    "list": (_list, "everything", {}),
    "session": (_session("porto"), "everything", {}),
    "tools": (_session("porto", ".thinking summary", ".call summary", ".call.failed summary"), "everything", {}),
    "team": (_session("lisbon"), "everything", {}),
    "failure": (_session("river"), "everything", {}),
    "long": (_long_transcript, "everything", {}),
    "search": (_search, "everything", {}),
    "nothing-found": (_plain("/?q=zeppelin"), "everything", {}),
    "filters": (_filters, "everything", {}),
    "more": (_more, "everything", {}),
    "palette": (_palette, "everything", {}),
    "help": (_help, "everything", {}),
    "not-served": (_session("away"), "everything", {}),
    "dark": (_session("porto", ".call summary"), "everything", {"color_scheme": "dark"}),
    "dark-list": (_list, "everything", {"color_scheme": "dark"}),
    "narrow-list": (_list, "everything", {"viewport": NARROW}),
    "narrow-session": (_session("porto"), "everything", {"viewport": NARROW}),
    "narrow-dark": (_session("lisbon"), "everything", {"viewport": NARROW, "color_scheme": "dark"}),
    "deleted": (_deleted, "everything", {}),
    "naming": (_naming, "everything", {}),
    "streaming": (_streaming, "everything", {}),
}


def shoot(browser: Browser, url: str, folder: Path, name: str) -> int:
    """Take one picture; how many bytes it has."""
    show, token, options = SHOTS[name]
    usual: dict[str, Any] = {"viewport": WIDE, "timezone_id": "Europe/Lisbon", "locale": "en-GB"}
    context = browser.new_context(**(usual | options))
    page = context.new_page()
    if token:
        page.goto(f"{url}/?token={token}")
    show(page, url)
    page.wait_for_timeout(250)
    small = (
        Image.open(BytesIO(page.screenshot()))
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    file = folder / f"{name}.png"
    small.save(file, optimize=True)
    context.close()
    return file.stat().st_size


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    program = os.environ.get("RECOLLECT_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        path = str(Path(scratch) / "demo.db")
        fill(path)
        with served(path) as url:
            browser = playwright.chromium.launch(executable_path=program, args=arguments)
            for name in sys.argv[2:] or SHOTS:
                size = shoot(browser, url, folder, name)
                print(f"{size:>8,} {name}.png")
                if size > LARGEST:
                    sys.exit(f"{name}.png is larger than {LARGEST:,} bytes")
            browser.close()


if __name__ == "__main__":
    main()
