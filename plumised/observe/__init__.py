"""What the node shows of itself: status, health checks, metrics, log, systemd notifications, the control socket.

A sibling of engine, oracle and chain that knows none of them: the composition root maps their snapshots to `Status`.
"""
