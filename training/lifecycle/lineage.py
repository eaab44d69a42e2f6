"""Where a version comes from and what became of it: cohort versions → run → gates → aliases and events → answers.

All of it stands in the registry and in MLflow; what could not be found is left out, and said.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from rich.tree import Tree

from consilium.artifacts.model_registry import RegisteredVersion
from consilium.artifacts.version_events import GATE, GateRecord
from consilium.domain.errors import RegistryError, TrainingError
from training.lifecycle.retrain import BESIDE, STARTED
from training.runtime.tracking import COHORT_VERSION, VERSIONS_FILE, downloaded

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Node:
    """One thing on the way, and what follows from it.

    Attributes
    ----------
    kind : str
        ``cohort version``, ``cohort``, ``model``, ``run``, ``gate``, ``event``, ``alias``, ``answers``.
    """

    kind: str
    name: str
    facts: dict[str, str] = field(default_factory=dict)
    children: tuple[Node, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "facts": self.facts,
            "children": [child.to_json() for child in self.children],
        }

    @property
    def line(self) -> str:
        """For a terminal and a picture."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items() if value)
        return f"{self.kind} {self.name}" + (f": {facts}" if facts else "")


def lineage(found: RegisteredVersion, answers: int | None = None) -> Node:
    """The way of one registered version.

    Parameters
    ----------
    answers : int or None
        How many answers of the version the audit log holds; None: it is not known.
    """
    after = [*_gates_and_events(found), *(Node("alias", alias) for alias in found.aliases)]
    if answers is not None:
        after.append(Node("answers", str(answers)))
    started = found.tags.get(STARTED, "")
    facts = {"started": started, "beside run": found.tags.get(BESIDE, ""), "audit": found.tags.get("audit", "")}
    facts |= {"commit": found.tags.get("git_commit", "")[:_SHORT]}
    model = Node(
        "model", f"{found.name} version {found.version}", {"artifact": found.manifest_digest[:_SHORT]}, tuple(after)
    )
    node = Node("run", found.run_id, facts, (*_parent(started), model))
    for cohort in reversed(_cohorts(found)):
        node = Node(cohort.kind, cohort.name, cohort.facts, (node,))
    return node


def _parent(started: str) -> tuple[Node, ...]:
    """The model that the training began from, by name."""
    source = started.rpartition(" ")[2]
    return (Node("begun from", source),) if source.startswith("models:/") else ()


def _gates_and_events(found: RegisteredVersion) -> Iterator[Node]:
    for event in found.events:
        record = GateRecord.parse(event.reason) if event.action == GATE else None
        if record is None:
            yield Node("event", event.action, {"at": event.time, "why": event.reason})
        else:
            facts = {"at": event.time, "run": record.run_id, "gates": record.gates[:_SHORT]}
            yield Node("gate", "passed" if record.passed else "failed", facts)


def _cohorts(found: RegisteredVersion) -> list[Node]:
    """The versions of the cohort, oldest first, as the run has kept them; of a plain cohort its digest."""
    tags = found.tags
    plain = Node("cohort", tags.get("cohort", "unknown"), {"digest": tags.get("cohort_digest", "")[:_SHORT]})
    if COHORT_VERSION not in tags:
        return [plain]
    try:
        document = json.loads(downloaded(found.run_id, VERSIONS_FILE).read_text(encoding="utf-8"))
    except (TrainingError, RegistryError):
        return [Node("cohort version", tags[COHORT_VERSION][:_SHORT], {"records": "not in this store"})]
    return [_cohort(one) for one in document["versions"]]


def _cohort(one: dict[str, Any]) -> Node:
    changes = ", ".join(f"{number} {what}" for what, number in one["changes"].items())
    facts = {"digest": one["digest"][:_SHORT], "studies": str(one["studies"]), "made": one["made"], "changes": changes}
    facts |= {"retired": one["retired"] or "", "why": one["why"]}
    return Node("cohort version", f"{one['name']} {one['number']}", facts)


# --- shown -----------------------------------------------------------------------------------------------------------


def as_tree(node: Node) -> Tree:
    """For a terminal."""
    tree = Tree(_escaped(node))
    _grow(tree, node)
    return tree


def _grow(tree: Tree, node: Node) -> None:
    for child in node.children:
        _grow(tree.add(_escaped(child)), child)


def _escaped(node: Node) -> str:
    return node.line.replace("[", r"\[")


def as_mermaid(node: Node) -> str:
    """A flow chart in the text of Mermaid, which GitHub, GitLab and many wikis draw."""
    return "\n".join(["flowchart LR", *_charted(node, count(1), "")]) + "\n"


def _charted(node: Node, numbers: Iterator[int], above: str) -> Iterator[str]:
    own = f"n{next(numbers)}"
    lines = [node.kind, node.name, *(f"{name} {value}" for name, value in node.facts.items() if value)]
    yield f'  {own}["{"<br/>".join(map(_quoted, lines))}"]'
    if above:
        yield f"  {above} --> {own}"
    for child in node.children:
        yield from _charted(child, numbers, own)


def _quoted(text: str) -> str:
    """`text` as Mermaid takes it between quotes."""
    return html.escape(text).replace("&#x27;", "'").replace("&", "#").replace("\n", " ")
