"""Hosts for tests: containers that boot Debian's systemd, driven through testcontainers.

`docker_engine` starts Docker where none runs, `images` builds what the hosts boot, `host` is one host, `network` joins
hosts, `fixtures` has all of that for pytest, and `ownership` clears away what a session that died has left.
`python -m tests.hosts` starts and stops the engine by hand.
"""

import os

# testcontainers reads these when it is imported, which only modules below this package do. Its reaper is an image that
# would have to be pulled, and a /.dockerenv on the machine misleads its guess of where containers can be reached.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
os.environ["TESTCONTAINERS_CONNECTION_MODE"] = "docker_host"
