"""Folders of tiny text models of many families, as Hugging Face writes them, that tests make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from consilium.modalities.text.wordpiece import train_wordpiece
from tests.consilium.tiny import WORDS

WINDOW = 24
"""Word pieces that the models with a limit read at a time."""
_VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 16,
}


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A WordPiece of the words of tiny studies."""
    return train_wordpiece([(f"p{number}", " ".join(WORDS)) for number in range(5)], 200)


def _sizes(tokenizer: PreTrainedTokenizerBase, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": WINDOW,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    } | more


def _plain(name: str, **more: Any) -> Callable[[PreTrainedTokenizerBase], PreTrainedModel]:
    def make(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        config = getattr(transformers, f"{name}Config")(**_sizes(tokenizer, **more))
        return getattr(transformers, f"{name}Model")(config)

    return make


def _masked_bert(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return transformers.BertForMaskedLM(transformers.BertConfig(**_sizes(tokenizer)))


def _distilbert(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": WINDOW}
    return transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=len(tokenizer), **sizes))


def _modernbert(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    markers = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    sizes = _sizes(tokenizer, max_position_embeddings=2048, **markers)
    return transformers.ModernBertModel(transformers.ModernBertConfig(**sizes))


def _towers(name: str, **more: Any) -> Callable[[PreTrainedTokenizerBase], PreTrainedModel]:
    def make(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        config = getattr(transformers, f"{name}Config")
        return getattr(transformers, f"{name}Model")(
            config(text_config=_sizes(tokenizer), vision_config=_VISION, **more)
        )

    return make


def _t5(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    ids = {"pad_token_id": 0, "decoder_start_token_id": 0}
    return transformers.T5Model(transformers.T5Config(vocab_size=len(tokenizer), **sizes, **ids))


FAMILIES: dict[str, Callable[[PreTrainedTokenizerBase], PreTrainedModel]] = {
    "bert": _masked_bert,
    "roberta": _plain("Roberta", pad_token_id=1, max_position_embeddings=WINDOW + 2),
    "mpnet": _plain("MPNet", pad_token_id=1, max_position_embeddings=WINDOW + 2),
    "distilbert": _distilbert,
    "electra": _plain("Electra", embedding_size=8),
    "deberta": _plain("DebertaV2"),
    "modernbert": _modernbert,
    "clip": _towers("CLIP", projection_dim=16),
    "siglip": _towers("Siglip"),
    "t5": _t5,
}


def save_model(family: str, folder: Path) -> Path:
    """A model of `family` with random weights, and its tokenizer, in `folder`."""
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        FAMILIES[family](tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
