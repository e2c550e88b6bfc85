"""`{keys} COMMAND` on a page: every key of a command."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tables import COMMANDS, table_of, variants


class Keys(SphinxDirective):
    """The keys of one command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """What it does, then a rubric and a table for every group."""
        command = self.arguments[0]
        spec = COMMANDS[command].load_spec()
        made = self.parse_text_to_nodes(f"{COMMANDS[command].summary}.")
        if spec.keys:  # a configuration that is no dataclass says its keys itself
            text = spec.keys()
            return [*made, nodes.literal_block(text, text, language="text")]
        for title, prefix, config in variants(command):
            table = table_of(config, prefix)
            if table:
                made += [nodes.rubric("", title), *self.parse_text_to_nodes(table)]
        return made


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_directive("keys", Keys)
    return {"parallel_read_safe": True}
