"""Where the deployment has keys, models that no trusted key has signed are neither promoted nor loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from modelmill.artifacts import ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError
from modelmill.models.bundle import bundle_digest
from modelmill.registry import promotion
from modelmill.registry.bundles import TAG_DIGEST, TAG_PACKAGE, fetch_bundle
from modelmill.registry.packaging import package_digest
from modelmill.registry.rollback import rollback
from modelmill.registry.signing import sign, signature_of
from modelmill.settings import Settings


def key_pair(folder: Path, name: str, *, password: bytes | None = None) -> tuple[Path, Path]:
    """Make an elliptic curve key; return where the private and the public half are."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


@pytest.fixture
def signed(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the deployment sign models and ask for signatures; return the public key."""
    private, public = key_pair(tmp_path, "ours")
    monkeypatch.setenv("MODELMILL_SIGNING_KEY", str(private))
    monkeypatch.setenv("MODELMILL_TRUSTED_KEYS", str(public))
    return public


Propose = Callable[..., ModelRef]
Accept = Callable[..., VerdictRef]


def stored(model: ModelRef) -> Path:
    """Where MLflow keeps a logged model."""
    logged = mlflow.get_logged_model(model.uri.removeprefix("models:/"))
    return Path(logged.artifact_location.removeprefix("file://"))


def rewritten(model: ModelRef) -> ModelRef:
    """Return the model after its tags have been made to fit its files, as who can write both would."""
    folder, model_id = stored(model), model.uri.removeprefix("models:/")
    digest = bundle_digest(folder / "artifacts" / "bundle")
    tags = {TAG_DIGEST: digest, TAG_PACKAGE: package_digest(folder)}
    mlflow.MlflowClient().set_logged_model_tags(model_id, tags)
    return model.model_copy(update={"digest": digest})


def is_refused(model: ModelRef, accepted: Accept, context: StepContext, tmp_path: Path, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        promotion.promote(accepted(model), context)
    assert promotion.champion_version("topics", context.settings) is None
    with pytest.raises(ModelError, match=why):
        fetch_bundle(model, tmp_path / "elsewhere")


def test_a_signed_model_is_promoted_and_loaded_and_others_can_verify_it(
    signed: Path, propose: Propose, accepted: Accept, step_context: StepContext, tmp_path: Path
) -> None:
    model = propose("ours")
    champion = promotion.promote(accepted(model), step_context)
    assert mlflow.pyfunc.load_model("models:/topics@champion")
    folder = stored(model)
    # As loading does, unless PYTHONDONTWRITEBYTECODE is set.
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "script.pyc").write_bytes(b"bytecode")
    bundle = fetch_bundle(champion, tmp_path / "elsewhere")
    assert not list((tmp_path / "elsewhere").rglob("*.pyc"))
    assert (bundle / "modelmill.json").exists()
    for part, signature in ((folder, "model.sig"), (folder / "artifacts" / "bundle", "artifacts/bundle.sig")):
        command = [sys.executable, "-m", "model_signing", "verify", "key", str(part)]
        command += ["--signature", str(folder / signature), "--public_key", str(signed)]
        apart = [str(folder / name) for name in ("model.sig", "__pycache__")]
        command += [word for path in apart for word in ("--ignore-paths", path)] if part == folder else []
        subprocess.run(command, check=True, capture_output=True)


def test_a_model_without_a_signature_is_refused(
    signed: Path,
    propose: Propose,
    accepted: Accept,
    step_context: StepContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MODELMILL_SIGNING_KEY")
    model = propose("unsigned")
    is_refused(model, accepted, step_context, tmp_path, "a model must be signed")
    with pytest.raises(ModelError, match="a model must be signed"):
        mlflow.pyfunc.load_model(model.uri)
    monkeypatch.delenv("MODELMILL_TRUSTED_KEYS")
    assert promotion.promote(accepted(model), step_context)


def test_a_model_of_another_key_is_refused_and_of_either_trusted_key_is_not(
    signed: Path,
    propose: Propose,
    accepted: Accept,
    step_context: StepContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    private, public = key_pair(tmp_path, "theirs")
    monkeypatch.setenv("MODELMILL_SIGNING_KEY", str(private))
    model = propose("theirs")
    is_refused(model, accepted, step_context, tmp_path, "signed with a trusted key .*Key mismatch")
    monkeypatch.setenv("MODELMILL_TRUSTED_KEYS", f"{signed}, {public}")
    assert promotion.promote(accepted(model), step_context)


@pytest.mark.parametrize("file", ["artifacts/bundle/tokenizer.json", "MLmodel", ".gitattributes"])
def test_files_that_were_changed_together_with_their_digests_are_refused(
    file: str,
    signed: Path,
    propose: Propose,
    accepted: Accept,
    step_context: StepContext,
    tmp_path: Path,
) -> None:
    model = propose("ours")
    path = stored(model) / file
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n")
    is_refused(rewritten(model), accepted, step_context, tmp_path, "signed with a trusted key .*mismatch")


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "another model's", "no JSON", "one of two"])
def test_a_signature_that_is_none_is_refused(
    how: str, signed: Path, propose: Propose, accepted: Accept, step_context: StepContext, tmp_path: Path
) -> None:
    model, other = propose("ours"), propose("other", skill=-1.0)
    names = ["model.sig", "artifacts/bundle.sig"] if how != "one of two" else ["model.sig"]
    for name in names:
        place = stored(model) / name
        content = place.read_bytes()
        place.unlink()
        if how not in ("missing", "one of two"):
            changed = {"empty": b"", "cut": content[: len(content) // 2], "no JSON": b"\0" * 100}
            place.write_bytes(changed.get(how) or (stored(other) / name).read_bytes())
    # The model's own copy on this machine is still whole: what is promoted is what is stored.
    is_refused(rewritten(model), accepted, step_context, tmp_path, "a model must be signed")


def test_a_bundle_that_is_on_this_machine_without_its_signature_is_fetched_again(
    signed: Path, propose: Propose, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = propose("ours")
    kept = step_context.cache / "models" / model.digest
    kept.with_name(f"{model.digest}.sig").unlink()
    assert fetch_bundle(model, step_context.cache) == kept
    shutil.rmtree(stored(model))
    assert fetch_bundle(model, step_context.cache) == kept


def test_a_signature_that_was_renewed_is_fetched(
    signed: Path, propose: Propose, step_context: StepContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = propose("ours")
    kept = signature_of(step_context.cache / "models" / model.digest)
    private, public = key_pair(tmp_path, "next-year")
    monkeypatch.setenv("MODELMILL_TRUSTED_KEYS", str(public))
    with pytest.raises(ModelError, match="signed with a trusted key"):
        fetch_bundle(model, step_context.cache)
    monkeypatch.setenv("MODELMILL_SIGNING_KEY", str(private))
    folder = stored(model)
    for name in ("model.sig", "artifacts/bundle.sig"):
        (folder / name).unlink()
    sign(folder / "artifacts" / "bundle", folder / "artifacts" / "bundle.sig")
    sign(folder, folder / "model.sig", ignored=("registered_model_meta", "model.sig"))
    before = kept.read_bytes()
    # The digest of the files around the bundle has its signature in it.
    tags = {TAG_PACKAGE: package_digest(folder)}
    mlflow.MlflowClient().set_logged_model_tags(model.uri.removeprefix("models:/"), tags)
    assert fetch_bundle(model, step_context.cache) == step_context.cache / "models" / model.digest
    assert kept.read_bytes() != before


def test_a_rollback_asks_for_the_signature_too(
    signed: Path, promoted: Callable[[int], ModelRef], step_context: StepContext
) -> None:
    first = promoted(1)
    promoted(2)
    source = mlflow.MlflowClient().get_model_version("topics", first.uri.rsplit("/", 1)[1]).source
    logged = mlflow.get_logged_model(source.removeprefix("models:/"))
    (Path(logged.artifact_location.removeprefix("file://")) / "model.sig").unlink()
    with pytest.raises(ModelError, match=r"a model must be signed .*no model.sig"):
        rollback("topics", step_context.settings, why="slow", say=lambda line: None)
    assert promotion.champion_version("topics", step_context.settings) == 2


@pytest.mark.parametrize("kind", ["missing", "rsa", "password", "public", "text"])
def test_a_key_that_cannot_be_used_is_named(
    kind: str, signed: Path, propose: Propose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = propose("ours")
    place = tmp_path / "key"
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        place.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    elif kind == "password":
        key_pair(tmp_path, "hidden", password=b"secret")[0].rename(place)
    elif kind == "public":
        shutil.copy(signed, place)
    elif kind == "text":
        place.write_text("no key")
    monkeypatch.setenv("MODELMILL_SIGNING_KEY", str(place))
    with pytest.raises(ConfigError, match="MODELMILL_SIGNING_KEY must name a private key"):
        propose("other", tweak=0.1)
    if kind != "public":
        monkeypatch.setenv("MODELMILL_TRUSTED_KEYS", str(place))
        with pytest.raises(ConfigError, match="MODELMILL_TRUSTED_KEYS must name public keys"):
            fetch_bundle(model, tmp_path / "elsewhere")
