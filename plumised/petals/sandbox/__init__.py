"""Confines the engine before it reads a model or talks to a stranger; docs/sandbox.md says against what.

`places` decides what of the file system stays open, `denials` which system calls are refused; `landlock` and `seccomp`
have the kernel hold that, and `entering` does both and says what is in force. Standard library only: it runs before
anything else is imported.
"""
