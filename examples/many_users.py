"""One agent serves all users of a web process: sessions are named in each call, nothing is kept in the agent."""

import asyncio

from recollect import Agent, EchoModel, SessionNotFound, SqliteDb


async def main() -> None:
    async with Agent(model=EchoModel(), db=SqliteDb(db_file="tmp/many_users.db")) as agent:
        questions = [(user, f"Question {number} of {user}") for user in ("ada", "bob", "eve") for number in range(3)]
        runs = await asyncio.gather(*(agent.arun(text, user_id=user) for user, text in questions))

        page = await agent.aget_sessions(user_id="ada", limit=2)
        print([header.preview for header in page], "and more:", page.next_cursor is not None)

        try:
            await agent.aget_chat_history(runs[0].session_id, user_id="eve")  # a session of ada's
        except SessionNotFound as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
