"""A team: all members are asked at once, each run is kept in the team's session, and anybody can read who said what."""

from recollect import Agent, EchoModel, RunEvent, SqliteDb, Team, TeamSession

hotels = Agent(EchoModel(reply="The river hotel has a room."), id="hotels", role="Knows the hotels")
trains = Agent(EchoModel(reply="A train leaves at nine."), id="trains", role="Knows the trains")


def main() -> None:
    # EchoModel calls the tool whose name it is told; a real model decides by itself whom to ask.
    with Team(
        [hotels, trains], model=EchoModel(), mode="broadcast", name="Desk", db=SqliteDb(db_file="tmp/team.db")
    ) as desk:
        question = "Please delegate_task_to_members: a weekend in Lisbon"
        for event in desk.run(question, user_id="ada", stream_events=True):
            if event.event is RunEvent.run_completed and event.run is not None:
                print(f"{event.agent_id or event.team_id}: {event.run.content}")

        session = desk.get_session(desk.get_sessions(user_id="ada")[0].session_id, user_id="ada")
        assert isinstance(session, TeamSession)
        print(session.get_team_history(num_runs=1))
        print([message.text for message in session.get_messages(member_ids=["trains"])])


if __name__ == "__main__":
    main()
