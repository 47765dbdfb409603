"""What keeps a project together agrees with itself: oldest versions, citation, workflow, hooks."""

from __future__ import annotations

import re
import sys
from itertools import chain

import pytest
from documents import ROOT

from torchnle.version import __version__

yaml = pytest.importorskip("yaml")
if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load(path):
    return yaml.safe_load((ROOT / path).read_text())


def test_the_oldest_versions_of_the_workflow_are_those_that_are_allowed():
    pinned = dict(
        re.findall(r"^([\w-]+)==([\d.]+?)(?:\.0)?$", (ROOT / ".github/oldest.txt").read_text(), re.M)
    )
    requirements = [
        *project()["dependencies"],
        *chain.from_iterable(project()["optional-dependencies"].values()),
    ]
    least = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(requirements), re.M))
    assert {"torch", "transformers"} <= set(pinned)
    assert pinned == {name: least[name] for name in pinned}


def test_the_workflow_runs_what_a_contributor_runs():
    workflow = load(".github/workflows/test.yml")
    steps = workflow["jobs"]["test"]["steps"]
    assert "make test" in [step.get("run") for step in steps]
    runs = workflow["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert runs[0]["python"] == project()["requires-python"].removeprefix(">=")
    assert (ROOT / runs[0]["constraints"]).is_file()


def test_the_citation_names_this_version_and_four_papers():
    citation = load("CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == project()["license"]
    assert len(citation["references"]) == 4
    assert all(paper["authors"] and paper["title"] and paper["year"] for paper in citation["references"])


def test_hooks_call_tools_of_the_test_environment():
    tools = {
        hook["entry"].split()[0]
        for repo in load(".pre-commit-config.yaml")["repos"]
        for hook in repo["hooks"]
    }
    named = {"lint-imports": "import-linter"}
    tested = " ".join(project()["optional-dependencies"]["test"])
    assert all(named.get(tool, tool) in tested for tool in tools)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda p: p.stem
)
def test_an_issue_template_has_what_a_form_needs(path):
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    assert all(part["attributes"]["label"] for part in form["body"])
