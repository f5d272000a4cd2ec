"""From a run to a model folder."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.commands import gdn
from tests.helpers.models import Exported
from tests.helpers.needs import needs_training

pytestmark = needs_training


def test_a_model_says_the_specimen_of_its_recipe(tiny_model: Path) -> None:
    from gdn.generator.loading import networks_of_model
    from gdn.models import SpecimenCard, find_model, load_model
    from gdn.recipes import Specimen as RecipeSpecimen

    assert load_model(tiny_model).card.specimen == SpecimenCard(
        material="nothing in particular", voltage_kv=300
    )
    old = find_model("pt-ceo2-64")
    assert "specimen" not in old.card.recipe
    assert networks_of_model(old.folder)[2].specimen.card() == old.card.specimen
    assert (
        RecipeSpecimen(description="any", source="any", energies_kv=(300, 80)).card().voltage_kv
        is None
    )


def test_export_checks_and_reports(
    tmp_path: Path, tiny_export: Exported, tiny_half: Exported
) -> None:
    import onnx

    from gdn.models import load_model

    assert "differ by at most" in tiny_export.said
    card = load_model(tiny_export.folder).card
    assert (card.latent, card.patch, card.precision) == (16, 32, "fp32")
    for folder in (
        tiny_export.folder,
        tiny_half.folder,
    ):  # each weight lies in weights.safetensors alone
        for path in folder.glob("*.onnx"):
            assert not [
                t.name
                for t in onnx.load(str(path)).graph.initializer
                if t.name.startswith("weight_") and len(t.dims) == 4
            ]
    graph = onnx.load(str(tiny_half.folder / "generator.onnx"))
    assert graph.opset_import[0].version == 20
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert load_model(tiny_half.folder).card.precision == "fp16"
    assert gdn("export", tmp_path, "-o", tmp_path / "x").returncode == 2
