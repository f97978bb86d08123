"""A client of a Petals swarm that spends on a token little more than the servers do.

Greedy decoding of one sequence a session, any number of sessions at once. `swarm.SwarmClient` is the way in.
"""
