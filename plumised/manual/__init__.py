"""Man pages and shell completion, made from the settings and the verbs themselves."""
