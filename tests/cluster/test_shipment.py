"""Models and banks on their way to a worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.needs import needs_cluster

pytestmark = needs_cluster


def test_models_and_banks_that_are_not_what_was_sent_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from gdn.cluster.shipment import PackedBank, PackedModel
    from gdn.models import ModelError, find_model
    from gdn.search.bank import Bank

    packed = PackedModel.of(find_model("pt-ceo2-64"))
    assert packed.unpack(tmp_path).hash == packed.hash
    foreign = replace(packed, name="mine")
    assert foreign.unpack(tmp_path).folder == tmp_path / f"gdn-{packed.hash[:16]}" / "mine"
    with pytest.raises(ModelError, match="not the model that was sent"):
        replace(foreign, hash="0" * 64).unpack(tmp_path)
    broken = packed.files | {"generator.onnx": packed.files["generator.onnx"][:-1] + b"x"}
    with pytest.raises(ModelError, match="sha256"):
        replace(foreign, files=broken).unpack(tmp_path)
    bank = PackedBank.of(Bank(seed=0, dimension=4, images=np.ones((2, 3, 3), np.float16)))
    np.testing.assert_array_equal(bank.unpack().images, np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="damaged"):
        replace(bank, images=bytes(36)).unpack()


def test_each_worker_takes_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn.cluster.shipment import own_card

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: [Path(f"/dev/nvidia{n}") for n in range(4)]
    )
    assert [own_card("cuda", n) for n in (0, 1, 5)] == ["cuda:0", "cuda:1", "cuda:1"]
    assert own_card("cpu", 1) == "cpu"
    assert own_card("cuda", "a name") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert own_card("cuda", 3) == "cuda"
