"""Signatures of model files: they prove who wrote them; a digest only proves that nothing has changed.

A signature is what ``model-signing`` (OpenSSF Model Signing 1.0) makes: a Sigstore bundle with the SHA-256 of
each file, signed by a private key that lies on the machines that make models. Keys are files, so that nothing
is asked of a server. A model has two of them:

=============================  =======================================================================
``artifacts/bundle.sig``       of the bundle; it stays beside the bundle wherever that is copied, and is
                               verified before each load
``model.sig``                  of all files that MLflow loads the model with; it is verified when the model
                               is downloaded, and so before a promotion
=============================  =======================================================================

Both can be verified without modelmill, with the command ``model_signing verify key``, for instance before
``mlflow models serve``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.errors import ConfigError, ModelError
from modelmill.models.bundle import bundle_digest
from modelmill.settings import Settings
from modelmill.system.imports import needing_extra

if TYPE_CHECKING:
    from types import ModuleType

MODEL_SIGNATURE = "model.sig"
"""Name of the signature of a whole model, in its folder."""


class SignatureError(ModelError):
    """Files that may be whole have no signature that the deployment trusts."""


def signature_of(bundle: Path) -> Path:
    """Return the path of a bundle's signature, beside the bundle, whether it exists or not."""
    return bundle.with_name(f"{bundle.name}.sig")


def sign(folder: Path, signature: Path, *, ignored: Sequence[str] = ()) -> None:
    """Sign the files of a folder, if the deployment has a signing key.

    :param folder: plain files, without links.
    :param signature: where to write it.
    :param ignored: files of the folder that are not signed.
    :raises ConfigError: if the key cannot be read, or the extra is not installed.
    """
    key = Settings.from_environment().signing_key
    if key is None:
        return
    model_signing = _library()
    try:
        signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _unfit("MODELMILL_SIGNING_KEY", "a private key without a password", error) from error
    signer.set_hashing_config(_hashing(model_signing, ignored)).sign(folder, signature)


def verify(folder: Path, signature: Path, *, ignored: Sequence[str] = ()) -> None:
    """Check that a folder holds what was signed with one of the trusted keys, if the deployment has such.

    :param folder: the files.
    :param signature: of the folder.
    :param ignored: files of the folder that are not signed.
    :raises SignatureError: if there is no signature, it is of another key, or the files are others.
    :raises ConfigError: if a key cannot be read, or the extra is not installed.
    """
    keys = Settings.from_environment().trusted_keys
    if not keys:
        return
    if not signature.is_file():
        raise SignatureError(
            "a model must be signed where MODELMILL_TRUSTED_KEYS is set",
            got=f"no {signature.name}",
            remedy="make it again where MODELMILL_SIGNING_KEY is set",
        )
    model_signing = _library()
    found = []
    for key in keys:
        try:
            verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key)
        except (OSError, ValueError, AttributeError) as error:
            raise _unfit("MODELMILL_TRUSTED_KEYS", "public keys", error) from error
        verifier.set_hashing_config(_hashing(model_signing, ignored))
        try:
            verifier.verify(folder, signature)
        except Exception as error:  # what a signature is parsed with raises anything
            found.append(str(error) or type(error).__name__)
        else:
            return
    raise SignatureError(
        f"a model must be signed with a trusted key ({'; '.join(dict.fromkeys(found))})",
        got=signature.name,
        remedy="somebody else made it, or it was changed afterwards: make it again",
    )


def _hashing(model_signing: ModuleType, ignored: Sequence[str]) -> Any:
    # Git's files count, too: by default they could be added to a signed model.
    return model_signing.hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _library() -> ModuleType:
    with needing_extra("signatures need", "signing"):
        import model_signing
    return model_signing


def _unfit(name: str, what: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{name} must name {what} as PEM files of an elliptic curve (P-256, P-384, P-521)",
        got=" ".join(str(error).split()) or type(error).__name__,
        remedy="openssl ecparam -genkey -name prime256v1 -noout makes one",
    )


def verify_digest(folder: Path, digest: str) -> None:
    """Check that a bundle is the one that was logged, and signed by whom the deployment trusts.

    :param folder: the bundle.
    :param digest: what :func:`~modelmill.models.bundle.bundle_digest` gave when it was logged.
    :raises ModelError: if its files have changed since, or it lacks a signature that is asked for.
    """
    found = bundle_digest(folder)
    if found != digest:
        raise ModelError(
            f"the model's files must have the digest {digest[:16]}… that was logged",
            got=found,
            remedy="they were changed or damaged afterwards: make the model again, or restore the files",
        )
    verify(folder, signature_of(folder))
