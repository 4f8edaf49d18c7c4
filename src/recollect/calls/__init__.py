"""What agents and teams do with sessions: each operation written once, over a `Call`; `recollect.runtime` offers them.

One file a noun; none of them knows another but `call`.
"""
