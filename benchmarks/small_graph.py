"""Write gdn/adaptation/small.onnx, the graph of the network that begins from nothing, without
weights. To be run when its shape or the exporter changes.

    python benchmarks/small_graph.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from gdn.adaptation.model_folder import SMALL, SMALL_ANGSTROM, SMALL_GRAPH
from gdn.generator.loading import write_restorer
from gdn.generator.restorer_network import Restorer
from gdn.training.export_restorer import export_restorer


def main() -> None:
    """Random weights, exported and compared with torch; the graph is kept."""
    torch.manual_seed(0)
    network = Restorer(SMALL)
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    description = {"shape": SMALL.record(), "sampling_angstrom": SMALL_ANGSTROM, "recipe": {}}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        write_restorer(weights, network.state_dict())
        difference = export_restorer(weights, description, Path(folder) / "small")
        print(f"differs from torch by {difference:.1g}")
        shutil.copyfile(Path(folder) / "small" / "restorer.onnx", SMALL_GRAPH)
    print(f"{SMALL_GRAPH}: {SMALL_GRAPH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
