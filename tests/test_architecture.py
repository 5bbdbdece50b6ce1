"""The import rule of the house, the public names, and what ``import vicreg`` may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vicreg

SOURCE = Path(vicreg.__file__).parent

# Each room may import rooms of lower rows, and those beside its name.
ROWS = {
    "_checks": 0,
    "distributed": 1,
    "functional": 2,
    "loss": 3,
    "objectives": 3,
    "views": 3,
    "networks": 3,
    "data": 3,
    "runs": 3,
    "evaluation": 3,
    "diagnostics": 3,
    "inference": 4,
    "training": 4,
    "supervised": 4,
    "estimators": 5,
    "portrait": 5,
    "report": 5,
    "workflows": 6,
    "paired": 7,
    "pretraining": 7,
    "tuning": 7,
    "cli": 8,
}
ONLY = {
    "views": {"_checks"},
    "networks": {"_checks"},
    "data": {"_checks"},
    "runs": {"_checks"},
    "functional": {"_checks", "distributed"},
    "evaluation": {"_checks", "functional"},
    "diagnostics": {"_checks", "functional"},
    "supervised": {"_checks", "distributed", "functional"},
    "report": {"_checks", "runs"},
    "inference": {"_checks", "data", "networks", "runs", "views"},
}
FORBIDDEN = {("training", "evaluation"), ("training", "inference")}
OPTIONAL = {
    "faiss",
    "skrub",
    "pandas",
    "polars",
    "PIL",
    "simplejpeg",
    "webdataset",
    "fsspec",
    "timm",
    "onnxruntime",
    "soundfile",
    "soxr",
    "optuna",
    "plotly",
    "jinja2",
    "umap",
    "tensorboard",
}
OPTIONAL_FILES = {
    "views/neighbors.py",
    "tuning/ledger.py",
    "data/discover.py",
    "data/decode.py",
    "data/image_given.py",
    "data/shards.py",
    "data/tars.py",
    "data/signal_decode.py",
    "networks/foreign.py",
    "portrait/media.py",
    "portrait/plane.py",
    "networks/export.py",
    "report/library.py",
    "report/rendering.py",
}

FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py" or path.parent != SOURCE)


def room(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(tree: ast.AST) -> set[str]:
    """The package's rooms that a file imports."""
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vicreg":
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "vicreg" and len(parts) > 1:
                    rooms.add(parts[1])
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_each_room_knows_only_lower_rows(path):
    here = room(path)
    for there in imported(ast.parse(path.read_text())) - {here}:
        assert ROWS[there] < ROWS[here], f"{path.name} imports {there}"
        assert there in ONLY.get(here, {there}), f"{path.name} imports {there}"
        assert (here, there) not in FORBIDDEN, f"{path.name} imports {there}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_stand_at_the_top_but_for_optional_extras(path):
    tree = ast.parse(path.read_text())
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                for name in names:
                    assert str(name).split(".")[0] in OPTIONAL, f"{path.name}: import {name} in {function.name}"
                    assert str(path.relative_to(SOURCE)) in OPTIONAL_FILES


def test_inheritance_is_one_deep_inside_the_package():
    parents: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                parents[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
    for name, bases in parents.items():
        for base in bases:
            assert not [one for one in parents.get(base, []) if one in parents], name


def test_public_names_exist_and_are_documented():
    readme = (SOURCE.parent.parent / "docs" / "api.md").read_text()
    for name in vicreg.__all__:
        assert getattr(vicreg, name).__doc__
        assert f"`{name}`" in readme, f"docs/api.md does not mention {name}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vicreg.nonsense  # noqa: B018


def test_importing_costs_torch_and_numpy_and_no_more():
    heavy = "('sklearn', 'lightning_fabric', 'pandas', 'pyarrow', 'scipy', 'tyro', 'rich', 'skrub', 'faiss')"
    code = f"import vicreg, sys; print([name for name in {heavy} if name in sys.modules])"
    loss = f"import vicreg, sys; vicreg.VICRegLoss(); print([name for name in {heavy} if name in sys.modules])"
    for one in (code, loss):
        shown = subprocess.run([sys.executable, "-c", one], capture_output=True, text=True, check=True)
        assert shown.stdout.strip() == "[]"
