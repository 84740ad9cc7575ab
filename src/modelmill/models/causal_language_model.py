"""A language model of a local folder that says how probable texts are after a prompt: weights, never code.

The folder is one of ``save_pretrained``: ``config.json``, ``tokenizer.json``, ``model.safetensors`` and a
chat template, in ``chat_template.jinja`` or ``tokenizer_config.json``. The files are checked as those of a
base model are. The template is rendered once, when the model is loaded, by transformers in jinja2's sandbox,
so no text of a row is ever part of a template, and control tokens in a row are read as plain text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from modelmill.errors import ModelError
from modelmill.models.decoder_folder import CHAT_FILES, check_decoder
from modelmill.models.encoder import read_config
from modelmill.models.limits import read_bounded
from modelmill.models.pretrained_weights import load_weights

MOST_TEMPLATE_TOKENS = 200
"""Tokens that a chat template puts around a message at most."""

_PLACE = "modelmill:message"


@dataclass(frozen=True)
class Prefix:
    """The beginning of prompts, read once."""

    tokens: int
    cache: DynamicCache
    """Keys and values of its tokens; copied before it is continued."""


@dataclass(frozen=True)
class Scores:
    """How probable continuations are."""

    mean: tuple[float, ...]
    """Mean log probability of each continuation's tokens, in nats."""
    prompt_tokens: int
    """With those of the prefix."""
    scored_tokens: int
    """Of the continuations."""


class CausalLanguageModel:
    """A language model that follows instructions.

    :param model: in evaluation mode.
    :param tokenizer: that reads control tokens as plain text.
    :param head: ids of what the chat template puts before a message.
    :param tail: ids of what it puts behind it, up to where the answer begins.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Tokenizer, *, head: Sequence[int], tail: Sequence[int]
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._head, self._tail = tuple(head), tuple(tail)
        limit = getattr(model.config, "max_position_embeddings", None)
        self.max_tokens: int | None = limit if isinstance(limit, int) else None
        """Tokens of a prompt and a continuation together; None: not limited."""

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, without special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return tuple(ids)

    def prompt_tokens(self, prefix: Prefix, rest: str) -> int:
        """Return how many tokens a prompt has.

        :param prefix: the beginning of the message.
        :param rest: its end.
        :return: the count, with the chat template's.
        """
        return prefix.tokens + len(self.tokens(rest)) + len(self._tail)

    @torch.inference_mode()
    def prefix(self, text: str) -> Prefix:
        """Read the beginning of a message.

        :param text: the same for many messages.
        :return: what :meth:`score` goes on from.
        """
        ids = [*self._head, *self.tokens(text)]
        cache = DynamicCache(config=self._model.config)
        if ids:
            self._model(input_ids=self._ids([ids]), cache=cache, use_cache=True, logits_to_keep=1)
        return Prefix(len(ids), cache)

    @torch.inference_mode()
    def score(self, prefix: Prefix, rest: str, continuations: Sequence[Sequence[int]]) -> Scores:
        """Say how probable answers are.

        One pass over the rest of the message, and one over all continuations at a time for what follows
        their first tokens.

        :param prefix: the beginning of the message.
        :param rest: its end.
        :param continuations: ids of each answer, at least one each.
        :return: the scores, in the order of the continuations.
        """
        ids = [*self.tokens(rest), *self._tail]
        cache = copy.deepcopy(prefix.cache)
        found: Any = self._model(input_ids=self._ids([ids]), cache=cache, use_cache=True, logits_to_keep=1)
        after = found.logits[0, -1].float().log_softmax(-1)  # (vocabulary,)
        total = after[self._ids([[one[0] for one in continuations]])[0]]  # (continuations,)
        longest = max(len(one) for one in continuations)
        if longest > 1:
            total = total + self._later(continuations, cache, longest)
        lengths = torch.tensor([len(one) for one in continuations], device=total.device)
        return Scores(
            mean=tuple((total / lengths).tolist()),
            prompt_tokens=prefix.tokens + len(ids),
            scored_tokens=sum(len(one) for one in continuations),
        )

    def _later(
        self, continuations: Sequence[Sequence[int]], cache: DynamicCache, longest: int
    ) -> torch.Tensor:
        """Return the sums of log probabilities of all tokens but the first, ``(continuations,)``."""
        # Padding stands behind what it follows, so nothing sees it; its own predictions are left out.
        padded = self._ids([[*one, *[0] * (longest - len(one))] for one in continuations])
        cache.batch_repeat_interleave(len(continuations))
        logits = self._model(input_ids=padded[:, :-1], cache=cache, use_cache=True).logits
        each = logits.float().log_softmax(-1).gather(2, padded[:, 1:, None])[..., 0]
        lengths = torch.tensor([len(one) for one in continuations], device=each.device)
        counts = torch.arange(1, longest, device=each.device)[None] < lengths[:, None]
        return torch.where(counts, each, 0.0).sum(1)

    def _ids(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor(ids, device=self._model.device)


def load_causal_language_model(folder: Path) -> CausalLanguageModel:
    """Load a language model. It computes in fp32, on the CPU.

    :param folder: with its files.
    :return: the model.
    :raises ModelError: as :func:`check_decoder`; or it has no chat template, or one that cannot be used.
    """
    check_decoder(folder)
    config = read_config(folder)
    whole, plain = _tokenizers(folder)
    if plain.get_vocab_size() > config.vocab_size:
        raise ModelError(
            f"tokenizer.json and config.json must be of one model: {plain.get_vocab_size()} tokens, "
            f"{config.vocab_size} embeddings",
            got=str(folder),
            remedy="download the model again",
        )
    head, tail = _around(folder, whole)
    model = load_weights(folder, config, kind=AutoModelForCausalLM)
    model.eval()  # type: ignore[no-untyped-call] # transformers has no types here
    return CausalLanguageModel(model, plain, head=head, tail=tail)


def _tokenizers(folder: Path) -> tuple[Tokenizer, Tokenizer]:
    """Return a tokenizer that knows control tokens, and one that reads them as text."""
    content = read_bounded(folder / "tokenizer.json")
    found = []
    for as_text in (False, True):
        try:
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare Exception
            raise ModelError(
                f"tokenizer.json must be one that the tokenizers library reads ({error})", got=str(folder)
            ) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = as_text
        found.append(tokenizer)
    return found[0], found[1]


def _around(folder: Path, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that the chat template puts before and behind a message."""
    rendered = _rendered(folder)
    parts = rendered.split(_PLACE)
    if len(parts) != 2:
        raise ModelError(
            "a chat template shows a user's message once",
            got=f"{len(parts) - 1} times in {folder}",
            remedy="take a model that follows instructions",
        )
    head, tail = (tokenizer.encode(part, add_special_tokens=False).ids for part in parts)
    if len(head) + len(tail) > MOST_TEMPLATE_TOKENS:
        raise ModelError(
            f"a chat template has at most {MOST_TEMPLATE_TOKENS} tokens",
            got=f"{len(head) + len(tail)} in {folder}",
            remedy="shorten the instructions that it begins with",
        )
    return head, tail


def _rendered(folder: Path) -> str:
    texts = {name: _text(folder / name) for name in CHAT_FILES}
    try:
        settings = json.loads(texts["tokenizer_config.json"] or "{}")
        template = texts["chat_template.jinja"] or settings.get("chat_template")
        special = {
            name: token["content"] if isinstance(token := settings.get(name), dict) else token
            for name in ("bos_token", "eos_token")
        }
    except (ValueError, AttributeError, LookupError, RecursionError) as error:
        raise ModelError(
            f"tokenizer_config.json must be readable JSON ({type(error).__name__})",
            got=str(folder),
            remedy="download the model again",
        ) from error
    if not isinstance(template, str):
        raise ModelError(
            "a language model that labels follows instructions: it has a chat template",
            got=str(folder),
            remedy="take its instruction-tuned version, with chat_template.jinja or tokenizer_config.json",
        )
    tokenizer: Any = PreTrainedTokenizerFast  # transformers has no types here
    chat = tokenizer(tokenizer_file=str(folder / "tokenizer.json"), **special)
    try:
        return str(
            chat.apply_chat_template(
                [{"role": "user", "content": _PLACE}],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            )
        )
    except Exception as error:  # a template may raise whatever it likes
        raise ModelError(
            f"the chat template must take a user's message ({type(error).__name__}: {error})",
            got=str(folder),
            remedy="download the model again",
        ) from error


def _text(path: Path) -> str | None:
    try:
        return read_bounded(path).decode() if path.exists() else None
    except UnicodeDecodeError as error:
        raise ModelError("a model's texts are UTF-8", got=str(path)) from error
