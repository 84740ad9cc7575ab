"""Images from a table to a served champion: every step on a few small pictures."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image
from safetensors.numpy import load_file
from tests.library.training.photos import KINDS, picture, rows

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.compression.trunk import make_image_trunk
from modelmill.errors import ConfigError, DatasetError, ModelError, PipelineError
from modelmill.evaluation.options import EvaluationOptions
from modelmill.evaluation.report import FetchedModel, evaluate_models
from modelmill.models.bundle import BundleInfo
from modelmill.models.image_base import load_image_base
from modelmill.models.predictions import answers_to
from modelmill.models.scorers import load_scorer
from modelmill.pipeline.validation import load_pipeline
from modelmill.registry.bundles import fetch_bundle, log_model
from modelmill.steps import gate, pick_signal, promote, score_table, train_heads, trunk


@pytest.fixture(scope="module")
def exported(image_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a trunk of that encoder."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    make_image_trunk(load_image_base(str(image_encoder), early_layers=4), folder, image="image")
    return folder


def made_trunk(exported: Path, context: StepContext) -> ModelRef:
    return log_model(exported, role="trunk", context=context)


def models(dataset: DatasetRef, base: ModelRef, context: StepContext) -> dict[str, ModelRef]:
    config = train_heads.TrainHeadsConfig(epochs=200, patience=40, learning_rate=0.02)
    signals = train_heads.run(
        config, train_heads.TrainHeadsInputs(dataset=dataset, trunk=base), context
    ).signals
    return {
        label: pick_signal.run(
            pick_signal.PickSignalConfig(signal=label), pick_signal.PickSignalInputs(signals=signals), context
        ).model
        for label in dataset.labels
    }


def test_every_step_from_images_to_a_champion(
    photos: DatasetRef, image_encoder: Path, step_context: StepContext, caplog: pytest.LogCaptureFixture
) -> None:
    config = trunk.TrunkConfig(base_model=str(image_encoder))
    base = trunk.run(config, trunk.TrunkInputs(), step_context).trunk
    heads = models(photos, base, step_context)
    folders = {label: fetch_bundle(model, step_context.cache) for label, model in heads.items()}
    options = EvaluationOptions(throughput_rows=32, resamples=100)
    reports = {
        label: evaluate_models([FetchedModel(heads[label], folders[label])], photos, options, step_context)
        for label in heads
    }
    for label, metric, least in (
        ("kind", "accuracy", 0.9),
        ("traits", "micro_f1", 0.8),
        ("light", "r2", 0.8),
    ):
        report = reports[label]
        assert report.rows == 30
        assert report.models[0][metric].value >= least, label
        names = [one.name for one in report.baselines]
        assert len(names) == 2
        assert names[1].startswith("pixels + "), names
    # What an image is sent as must not matter: the model reads its pixels.
    scorer = load_scorer(folders["kind"])
    answers, scores = answers_to(scorer, [picture("noise", 1000), None, b"no image", b""])
    assert answers == ["noise", None, None, None]
    assert scores[0] is not None
    assert scores[1:] == [None] * 3

    judged = gate.run(
        gate.GateConfig(name="kinds", resamples=200, max_calibration_error=None),
        gate.GateInputs(dataset=photos, challenger=heads["kind"]),
        step_context,
    )
    champion = promote.run(
        promote.PromoteConfig(), promote.PromoteInputs(verdict=judged.verdict), step_context
    )
    assert champion.model.uri.startswith("models:/kinds/")
    served_over_http(step_context)
    loaded_by_mlflow(champion.model, caplog)


def served_over_http(context: StepContext) -> None:
    from fastapi.testclient import TestClient

    from modelmill.http_service import create_app
    from modelmill.serving.config import ServeConfig
    from modelmill.serving.service import Service

    service = Service(ServeConfig(poll_seconds=3600, threads=1, models=("kinds",)), context.settings)
    service.follower.poll()
    service.start = lambda: None  # type: ignore[method-assign]
    service.follower.close = lambda: None  # type: ignore[method-assign]
    submit = service.submit

    def aside(*given: Any) -> Any:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()  # it serves others while images are decoded
        return submit(*given)

    service.submit = aside  # type: ignore[method-assign]
    try:
        with TestClient(create_app(service)) as client:
            coded = [base64.b64encode(picture(kind, 500)).decode() for kind in KINDS]
            sent = [{"photo": coded[0]}, {"image": f"data:image/png;base64,{coded[1]}"}, coded[2], None]
            for row in sent:
                answer = client.post("/v1/predict", json={"rows": [row]})
                assert answer.status_code == 200, answer.text
                found = answer.json()["rows"][0]["kinds"]["prediction"]
                assert found == (None if row is None else KINDS[sent.index(row)])
            for row, said in (
                ({"photo": "§"}, "rows.0.photo: an image is null, or its file in base64"),
                ({"photo": coded[0][:40]}, "rows.0.photo: an image is a whole file"),
                ({"text": coded[0]}, "rows.0: must have the field photo or image"),
            ):
                refused = client.post("/v1/predict", json={"rows": [row]})
                assert refused.status_code == 422
                assert said in refused.json()["detail"]
            asked = {"state": "a text", "questions": {"kinds": {"type": "choice", "criteria": {"noise": ""}}}}
            other = client.post("/v1/systemone", json=asked)
            assert other.status_code == 404
            assert "one model of texts" in other.json()["detail"]
    finally:
        service.close()


def loaded_by_mlflow(champion: ModelRef, caplog: pytest.LogCaptureFixture) -> None:
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(champion.uri)
    image = picture("stripes", 501)
    given = pd.DataFrame({"photo": [image, base64.b64encode(image).decode(), None]})
    assert model.predict(given)["prediction"].tolist() == ["stripes", "stripes", None]
    # As a table of a spark_udf: a cell that is no image has no answer, and the others have theirs.
    cut = base64.b64encode(image[:40]).decode()
    given = pd.DataFrame({"photo": ["§", base64.b64encode(image).decode(), cut, image[:40], None]})
    with caplog.at_level("WARNING", logger="modelmill"):
        assert model.predict(given)["prediction"].tolist() == [None, "stripes", *[None] * 3]
    (said,) = [one.getMessage() for one in caplog.records if one.name == "modelmill"]
    assert said.startswith("3 of 5 images have no answer; row 0: an image is null")


def test_a_head_reads_the_features_that_validation_rows_like_best(
    photos: DatasetRef, exported: Path, step_context: StepContext
) -> None:
    info = BundleInfo.load(exported)
    assert info.features
    late = info.features - info.early_features
    assert 0 < late < info.features
    lines: list[str] = []
    context = dataclasses.replace(step_context, log=lines.append)
    found = models(photos, made_trunk(exported, context), context)
    for label, model in found.items():
        better = [
            (float(loss), int(size))
            for size, loss in re.findall(rf"^{label}: (\d+) features, loss (\S+)$", "\n".join(lines), re.M)
        ]
        assert better[0][1] == info.features
        assert better == sorted(better, reverse=True, key=lambda one: one[0])
        (weights,) = fetch_bundle(model, context.cache).glob("*.safetensors")
        read = (load_file(weights)["weight"] != 0).any(0)
        blocks = {late: read[:late], info.early_features: read[late:], info.features: read}
        assert blocks[better[-1][1]].any()
        assert read.sum() <= better[-1][1]


def test_rules_ask_models_of_images(photos: DatasetRef, exported: Path, step_context: StepContext) -> None:
    import pandas as pd

    from modelmill.rules.frames import decide
    from modelmill.rules.reading import parse_rule_set

    model = models(photos, made_trunk(exported, step_context), step_context)["kind"]
    rules = parse_rule_set(RULES.format(model=fetch_bundle(model, step_context.cache)))
    settings = step_context.settings
    noisy, plain = picture("noise", 7), picture("plain", 8)
    for given in ([noisy, plain, None], [base64.b64encode(one).decode() for one in (noisy, plain)] + [None]):
        frame = pd.DataFrame({"id": ["a", "b", "c"], "photo": given})
        found = decide(rules, frame, explain=True, settings=settings)
        assert found["decision"].tolist() == ["review", "keep", "keep"]
        assert found["reason"][0].startswith("noise 0.")
        (signal,) = found["explanation"][0]["signals"]
        assert signal["signal"] == "noisy"
        assert model.digest[:16] in signal["version"]


def test_an_image_that_cannot_be_read_costs_its_own_row(
    photos: DatasetRef, exported: Path, step_context: StepContext
) -> None:
    import pandas as pd

    from modelmill.errors import SignalError
    from modelmill.rules.frames import decide
    from modelmill.rules.reading import parse_rule_set

    model = models(photos, made_trunk(exported, step_context), step_context)["kind"]
    text = RULES.format(model=fetch_bundle(model, step_context.cache))
    noisy, cut = picture("noise", 7), picture("noise", 9)[:40]
    coded = [base64.b64encode(one).decode() for one in (noisy, cut)]
    whole = "an image is a whole file of the kind"
    for given, said in (
        ([noisy, cut, b"no image", None], (whole, whole)),
        ([*coded, "§ no base64", None], (whole, "an image is null, or its file in base64")),
    ):
        frame = pd.DataFrame({"id": ["a", "b", "c", "d"], "photo": given})
        found = decide(parse_rule_set(text), frame, settings=step_context.settings)
        assert found["decision"].tolist() == ["review", "keep", "keep", "keep"]
        unknown = [one["signals"][0]["unknown"] for one in found["explanation"]]
        assert (unknown[0], unknown[3]) == (None, "NULL")
        assert unknown[1].startswith(said[0]), unknown
        assert unknown[2].startswith(said[1]), unknown
        with pytest.raises(SignalError, match=f"row 1: {whole}"):
            decide(parse_rule_set(f"{text}on_failure: stop\n"), frame, settings=step_context.settings)


def test_a_table_with_broken_images_is_decided_on_and_they_are_counted(
    photos: DatasetRef, exported: Path, step_context: StepContext, tmp_path: Path
) -> None:
    from modelmill.steps import decide
    from modelmill.tables.reading import read_arrow

    model = models(photos, made_trunk(exported, step_context), step_context)["kind"]
    path, place = tmp_path / "rules.yaml", tmp_path / "new"
    path.write_text(RULES.format(model=fetch_bundle(model, step_context.cache)))
    coded = [base64.b64encode(picture("noise", 400)).decode(), "§", "no image", None, "§"]
    write_deltalake(str(place), pa.table({"id": list("abcde"), "photo": pa.array(coded, pa.string())}))
    lines: list[str] = []
    context = dataclasses.replace(step_context, log=lines.append)
    config = decide.DecideConfig(rule_set=str(path), to=f"{place}_decided")
    inputs = decide.DecideInputs(table=TableRef(uri=str(place), version=0))
    decided = read_arrow(decide.run(config, inputs, context).table).sort_by("id")
    assert decided.column("decision").to_pylist() == ["review", *["keep"] * 4]
    (said,) = [line for line in lines if "could not be computed" in line]
    assert "noisy could not be computed on 3 rows: decisions.json" in said
    place = context.run.client.download_artifacts(context.run.run_id, "decisions.json", str(tmp_path))
    report = json.loads(Path(place).read_text())
    assert [
        (one["signal"], one["why"].partition(";")[0][:40], one["rows"]) for one in report["failures"]
    ] == [
        ("noisy", "an image is null, or its file in base64", 2),
        ("noisy", "an image is null, or its file in base64", 1),
    ]


RULES = """
rule_set: pictures
key: id
signals:
  noisy: {{kind: model, column: photo, model: "{model}", label: noise}}
rules:
  - {{name: noisy, when: noisy > 0.5, then: review, reason: "noise {{noisy:.4f}}"}}
default: keep
"""


def test_a_table_of_images_is_scored(photos: DatasetRef, exported: Path, step_context: StepContext) -> None:
    from modelmill.tables.reading import read_arrow

    model = models(photos, made_trunk(exported, step_context), step_context)["kind"]
    images = pa.array([picture("noise", 400), None, b"no image", picture("plain", 401)], pa.binary())
    place = Path(photos.uri).with_name("new")
    write_deltalake(str(place), pa.table({"id": list("abcd"), "photo": images, "name": ["x"] * 4}))
    inputs = score_table.ScoreTableInputs(table=TableRef(uri=str(place), version=0), model=model)
    config = score_table.ScoreTableConfig(to=f"{place}_scored", keep=("id",))
    lines: list[str] = []
    context = dataclasses.replace(step_context, log=lines.append)
    scored = read_arrow(score_table.run(config, inputs, context).table).sort_by("id")
    assert "4 rows, 1 of them without a image, 1 with one that cannot be decoded" in "\n".join(lines)
    assert scored.column("prediction").to_pylist() == ["noise", None, None, "plain"]
    wrong = score_table.ScoreTableConfig(to=f"{place}_other", text="name", keep=("id",))
    with pytest.raises(ConfigError, match="the model reads images: a column with the bytes of their files"):
        score_table.run(wrong, inputs, step_context)


def test_features_are_computed_once_for_the_same_pixels(
    photos: DatasetRef, exported: Path, step_context: StepContext
) -> None:
    lines: list[str] = []
    context = StepContext(**{**vars(step_context), "log": lines.append})
    base = made_trunk(exported, context)
    models(photos, base, context)
    assert "the trunk reads 60 of 60 images; the others are known" in lines
    # The same pixels in files of another format, and one new image.
    table = pa.table(rows(90))
    images = [one.as_py() for one in table.column("photo")]
    for number, content in enumerate(images):
        file = io.BytesIO()
        Image.open(io.BytesIO(content)).save(file, "BMP")
        images[number] = file.getvalue()
    images[0] = picture("noise", 999)
    table = table.set_column(1, "photo", pa.array(images, pa.binary()))
    write_deltalake(photos.uri, table, mode="overwrite")
    lines.clear()
    models(photos.model_copy(update={"version": 1}), base, context)
    assert "the trunk reads 1 of 60 images; the others are known" in lines


def test_a_row_that_is_no_image_is_named(
    photos: DatasetRef, exported: Path, step_context: StepContext
) -> None:
    base = made_trunk(exported, step_context)
    for column, said in (
        (pa.array([b"no image"] * 90, pa.binary()), "each image of a dataset must be readable.*key 000"),
        (pa.array([None] * 90, pa.binary()), "a row of a dataset must have an image.*key 000"),
        (pa.array(["/a/path.png"] * 90), "the image column must hold the bytes of images"),
    ):
        table = pa.table(rows(90)).set_column(1, "photo", column)
        write_deltalake(photos.uri, table, mode="overwrite", schema_mode="overwrite")
        version = int(TableRef(uri=photos.uri, version=0).version) + 1
        photos = photos.model_copy(update={"version": photos.version + version})
        with pytest.raises(DatasetError, match=said):
            models(photos, base, step_context)


def test_a_trunk_of_images_needs_images(
    topic_dataset: DatasetRef, exported: Path, step_context: StepContext
) -> None:
    base = made_trunk(exported, step_context)
    with pytest.raises(ConfigError, match="this step reads images, and the dataset has none"):
        models(topic_dataset, base, step_context)


PIPELINE = """
pipeline: photos
steps:
  source: {component: delta_table, config: {uri: /data/photos}}
  dataset:
    component: build_dataset
    inputs: {table: source.table}
    config: {image: photo, labels: [kind]}
  pruned:
    component: prune
    inputs: {dataset: dataset.dataset, model: teacher.model}
  teacher:
    component: use_champion
    config: {name: kinds}
"""


def test_what_reads_texts_alone_is_refused_when_the_pipeline_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "photos.yaml"
    path.write_text(PIPELINE)
    with pytest.raises(PipelineError) as error:
        load_pipeline(str(path))
    said = [str(problem) for problem in error.value.problems if "works on texts" in str(problem)]
    assert len(said) == 1
    assert "prune works on texts; step 'dataset' makes a dataset of images alone; remove the step" in said[0]
    assert "train_heads" in said[0]
    path.write_text(PIPELINE.replace("image: photo", "image: photo, text: caption"))
    load_pipeline(str(path))  # with texts, it has something to work on


def test_models_of_texts_and_of_images_are_not_compared(
    photos: DatasetRef, exported: Path, step_context: StepContext, make_bundle: Any
) -> None:
    from modelmill.evaluation.rows import judged_content

    image = models(photos, made_trunk(exported, step_context), step_context)["kind"]
    infos = [BundleInfo.load(fetch_bundle(image, step_context.cache)), BundleInfo.load(make_bundle("words"))]
    with pytest.raises(ModelError, match="models that are compared read the same of a row"):
        judged_content(infos)
