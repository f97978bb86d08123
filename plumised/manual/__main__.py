"""`python -m plumised.manual plumised.8 | node.toml.5 | completion` prints what the package installs."""

import os
import sys
from datetime import UTC, datetime

from plumised.manual.commands_page import commands_page
from plumised.manual.completion import completion
from plumised.manual.config_page import config_page

epoch = os.environ.get("SOURCE_DATE_EPOCH")
date = datetime.fromtimestamp(int(epoch), UTC).date().isoformat() if epoch else ""

sys.stdout.write(
    {"plumised.8": lambda: commands_page(date), "node.toml.5": lambda: config_page(date), "completion": completion}[
        sys.argv[1]
    ]()
)
