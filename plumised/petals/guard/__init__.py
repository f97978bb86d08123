"""What keeps strangers from harming the engine: every request is checked and limited before anything is done for it.

`tensors` and `requests` say what a well-formed request is, `gate` who may come in and who has to leave, `streams` and
`handler` put both between p2pd and Petals; `cache`, `nesting`, `unary`, `backlog`, `storage` and `quiet` mend what
upstream leaves open. docs/hostile-peers.md says what that adds up to.
"""
