"""The description of a model for the BioImage Model Zoo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from gdn.models import sha256_of
from tests.helpers.commands import gdn


@pytest.fixture(scope="module", params=["pt-ceo2-64", "restore"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped model's whole graphs."""
    out = tmp_path_factory.mktemp("whole") / request.param
    done = gdn("export", request.param, "-o", out, "--whole")
    assert done.returncode == 0, done.stderr
    assert "rdf.yaml" in done.stdout
    return out


def test_the_tensors_are_what_the_graph_makes(folder: Path) -> None:
    content = json.loads((folder / "rdf.yaml").read_text())
    weights = content["weights"]["onnx"]
    assert sha256_of(folder / weights["source"]) == weights["sha256"]
    session = onnxruntime.InferenceSession(folder / weights["source"])
    rows: dict[str, dict[str, np.ndarray]] = {"inputs": {}, "outputs": {}}
    for kind, tensors in rows.items():
        for row in content[kind]:
            source = folder / row["test_tensor"]["source"]
            assert sha256_of(source) == row["test_tensor"]["sha256"]
            tensors[row["id"]] = np.load(source)
            assert tensors[row["id"]].dtype == np.float32
            assert tensors[row["id"]].ndim == len(row["axes"])
    assert {i.name for i in session.get_inputs()} == set(rows["inputs"])
    (name,) = rows["outputs"]
    (result,) = session.run([name], rows["inputs"])
    np.testing.assert_allclose(result, rows["outputs"][name], rtol=1e-4, atol=1e-5)
    assert np.ptp(result) > 0.1  # the tolerance of a check means something
    assert (folder / content["documentation"]).read_text().startswith("# gdn ")


def test_the_zoos_own_package_accepts_it(folder: Path) -> None:
    spec = pytest.importorskip("bioimageio.spec", reason="needs bioimageio.spec")
    description = spec.load_description(folder / "rdf.yaml", perform_io_checks=True)
    assert description.validation_summary.status in ("valid-format", "passed")
