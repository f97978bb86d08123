"""The tables of node.toml: a module each, with every key's type, limits, default and description."""
