"""The engine's side: a Petals server that counts its work, proves its progress and tells the daemon about both.

Runs in the engine's Python environment, as `python -m plumised.petals`. Nothing here imports the daemon; the two meet
at the socket, see `plumised.ipc`. What is changed in petals and hivemind is listed in `plumised.petals.patches`.
"""
