"""Who published a version: signatures over its manifest, which holds the hash of every other file."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Protocol, final, runtime_checkable

import attrs
from typing_extensions import override

from mlserve.errors import InvalidArgumentError, SignatureError, UnknownKeyError

HMAC_ALGORITHM: Final = "hmac-sha256"
MODEL_SIGNING_ALGORITHM: Final = "model-signing"

SHORTEST_KEY_BYTES: Final = 32
"""A key shorter than the hash makes the signature weaker than the hash (RFC 2104, section 3)."""

LONGEST_KEY_BYTES: Final = 64
"""The block of SHA-256: a longer key is only hashed down (RFC 2104, section 2)."""

_PURPOSE: Final = b"mlserve version manifest\n"


@attrs.frozen
class Signature:
    """What a signer says of some bytes.

    Attributes:
        algorithm: How it was made.
        key_id: With which key; empty where the value tells.
        value: The signature, as text.
    """

    algorithm: str
    key_id: str
    value: str


@runtime_checkable
class Signer(Protocol):
    """Signs what a repository publishes. *Thread safety*: required."""

    @abstractmethod
    def sign(self, data: bytes) -> Signature:
        """The signature over some bytes."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Decides whether a version comes from somebody who may publish. *Thread safety*: required."""

    @abstractmethod
    def verify(self, data: bytes, signature: Signature) -> None:
        """Return when the signature is that of a known key over these very bytes.

        Raises:
            SignatureError: It is not.
            UnknownKeyError: The key, or the algorithm, is not known.
        """
        ...


def _checked_key(key: Any) -> bytes:
    if not isinstance(key, bytes) or not SHORTEST_KEY_BYTES <= len(key) <= LONGEST_KEY_BYTES:
        given = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise InvalidArgumentError(
            "key", given, f"{SHORTEST_KEY_BYTES} to {LONGEST_KEY_BYTES} bytes",
            hint="Make one with secrets.token_bytes(32).",
        )  # fmt: skip
    return key


def _checked_key_id(key_id: Any) -> str:
    if not isinstance(key_id, str) or not key_id or not key_id.isprintable():
        raise InvalidArgumentError("key_id", key_id, "a printable name", hint="For example '2026-01'.")
    return key_id


def _mac(key: bytes, key_id: str, data: bytes) -> str:
    # The length keeps a key id from running into the data.
    name = key_id.encode()
    return hmac.new(key, _PURPOSE + len(name).to_bytes(8, "big") + name + data, hashlib.sha256).hexdigest()


@final
class HmacSigner(Signer):
    """Signs with a secret that those who verify share: HMAC with SHA-256 (RFC 2104).

    *Thread safety*: immutable.

    Args:
        key_id: Which key it is, so that keys can be replaced one after the other. Not secret.
        key: 32 to 64 bytes, secret and random.

    Raises:
        InvalidArgumentError: A key of another length, or no id.

    Example:
        >>> signer = HmacSigner("2026-01", bytes(range(32)))
        >>> HmacVerifier({"2026-01": bytes(range(32))}).verify(b"data", signer.sign(b"data"))
    """

    def __init__(self, key_id: str, key: bytes) -> None:
        self._key_id = _checked_key_id(key_id)
        self._key = _checked_key(key)

    @override
    def sign(self, data: bytes) -> Signature:
        return Signature(HMAC_ALGORITHM, self._key_id, _mac(self._key, self._key_id, data))

    @override
    def __repr__(self) -> str:
        return f"HmacSigner({self._key_id!r})"


@final
class HmacVerifier(Verifier):
    """Verifies what ``HmacSigner`` signed with one of some keys.

    To replace a key, add the new one here first, then sign with it, then sign again or retire what the old one signed,
    and take the old one out. Whoever can verify can also sign: where that is too much, use signatures with a public
    key (``ModelSigningVerifier``).

    *Thread safety*: immutable.

    Args:
        keys: Secrets of 32 to 64 bytes by key id; at least one.

    Raises:
        InvalidArgumentError: No key, or one of another length.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not isinstance(keys, Mapping) or not keys:
            raise InvalidArgumentError("keys", type(keys).__name__, "a mapping of key ids to keys, not empty")
        self._keys = {_checked_key_id(key_id): _checked_key(key) for key_id, key in keys.items()}

    @override
    def verify(self, data: bytes, signature: Signature) -> None:
        key = self._keys.get(signature.key_id)
        if signature.algorithm != HMAC_ALGORITHM or key is None:
            raise UnknownKeyError(
                f"it was signed by {signature.algorithm!r} with the key {signature.key_id!r}; known are "
                f"{sorted(self._keys)} of {HMAC_ALGORITHM!r}.",
                hint="Add the key to the verifier if it is one of yours.",
            )
        given = signature.value.encode("utf-8", "surrogatepass")  # any text at all may stand in a file
        if not hmac.compare_digest(_mac(key, signature.key_id, data).encode(), given):
            raise SignatureError(
                f"the signature with the key {signature.key_id!r} is not that of what is stored.",
                hint="It was changed after it was signed, or signed with another key of this id.",
            )

    @override
    def __repr__(self) -> str:
        return f"HmacVerifier({sorted(self._keys)})"


class _SigningConfig(Protocol):
    def sign(self, model_path: Any, signature_path: Any) -> Any: ...


class _VerifyingConfig(Protocol):
    def verify(self, model_path: Any, signature_path: Any) -> Any: ...


@final
class ModelSigningSigner(Signer):
    """Signs by the package ``model-signing``: with a private key, a certificate, or an identity of Sigstore.

    What is signed is a directory with the manifest alone, which holds the hash of every file of the version.

    *Thread safety*: that of the configuration.

    Args:
        config: A ``model_signing.signing.Config`` on which one of its ``use_..._signer`` methods was called.
    """

    def __init__(self, config: _SigningConfig) -> None:
        self._config = config

    @override
    def sign(self, data: bytes) -> Signature:
        with tempfile.TemporaryDirectory(prefix="mlserve-signing-") as directory:
            model, bundle = _laid_out(directory, data)
            self._config.sign(model, bundle)
            with open(bundle, "rb") as file:
                return Signature(MODEL_SIGNING_ALGORITHM, "", base64.b64encode(file.read()).decode())


@final
class ModelSigningVerifier(Verifier):
    """Verifies what ``ModelSigningSigner`` signed.

    *Thread safety*: that of the configuration.

    Args:
        config: A ``model_signing.verifying.Config`` on which one of its ``use_..._verifier`` methods was called.
    """

    def __init__(self, config: _VerifyingConfig) -> None:
        self._config = config

    @override
    def verify(self, data: bytes, signature: Signature) -> None:
        if signature.algorithm != MODEL_SIGNING_ALGORITHM:
            raise UnknownKeyError(
                f"it was signed by {signature.algorithm!r}; expected {MODEL_SIGNING_ALGORITHM!r}.",
                hint="Open the repository with the verifier of the signer that published it.",
            )
        with tempfile.TemporaryDirectory(prefix="mlserve-signing-") as directory:
            model, bundle = _laid_out(directory, data)
            try:
                with open(bundle, "wb") as file:
                    file.write(base64.b64decode(signature.value, validate=True))
                self._config.verify(model, bundle)
            except Exception as error:  # whatever the package, or what it is built on, raises means that it is not
                raise SignatureError(
                    f"model-signing does not accept the signature: {type(error).__name__}: {error}.",
                    hint="It was changed after it was signed, or signed by somebody else.",
                    exception=error,
                ) from error


def _laid_out(directory: str, data: bytes) -> tuple[str, str]:
    model = os.path.join(directory, "version")
    os.mkdir(model)
    with open(os.path.join(model, "manifest.json"), "wb") as file:
        file.write(data)
    return model, os.path.join(directory, "signature.json")
