"""What the daemon and the engine share: messages, framing and the tally file. Standard library only."""
