"""Any Hugging Face text model: its tokenizer, its configuration, its weights, and how much it reads at a time.

Encoders are taken as they are; of a model of texts and images its text tower, of an encoder and decoder the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consilium.domain.errors import InputError
from consilium.modalities.text.section import TextSection
from consilium.modalities.weight_source import WeightSource
from consilium.modalities.weights.model_folder import README, WEIGHTS, model_folder, quiet_transformers, weights_source

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

FIELD = "modalities.text.model"
_FILES = ("*.json", "vocab*", "merges.txt", "*.model", f"{WEIGHTS}*", README)
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model")
_UNBOUNDED = 1_000_000
"""A tokenizer that knows no limit says a larger one."""
_AFTER_PADDING = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta"}
)
"""Types that number positions from the padding's id on."""
_HEADS = ("pooler", "head")
"""Parts that make one vector of a text, which nothing reads here."""
_LONGEST_CAUSE = 120
_READING = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError)


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """What must be known of a text model beside its weights.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
    config : mapping
        Its Hugging Face configuration.
    sources : tuple of WeightSource
        Of the weights that it begins from; empty: random.
    """

    tokenizer: PreTrainedTokenizerBase
    config: Mapping[str, Any]
    sources: tuple[WeightSource, ...] = ()

    @property
    def most_pieces(self) -> int | None:
        """Word pieces that the model reads at a time; None where it knows no limit."""
        positions = self.config.get("max_position_embeddings")
        if positions is not None and self.config["model_type"] in _AFTER_PADDING:
            positions -= (self.config.get("pad_token_id") or 0) + 1
        own = int(self.tokenizer.model_max_length)
        limits = [limit for limit in (positions, own) if limit is not None and limit < _UNBOUNDED]
        return min(limits, default=None)

    @property
    def begins_with_marker(self) -> bool:
        """Whether the tokenizer puts a marker such as ``[CLS]`` before a text."""
        ids = self.tokenizer("a", verbose=False)["input_ids"]
        return bool(len(ids) > 1 and ids[0] in self.tokenizer.all_special_ids)


def read_language_model(section: TextSection) -> LanguageModel:
    """The model that the `section` names.

    Raises
    ------
    InputError
        Where a file is missing or cannot be read, or the model reads no text.
    """
    name = str(section.model)
    folder = model_folder(name, FIELD, _FILES)
    config = _tower(_read_config(folder, name))
    source = weights_source(folder, name, str(config.model_type), FIELD, section.licence)
    tokenizer = _read_tokenizer(folder, name)
    if len(tokenizer) > config.vocab_size:
        rule = f"must have a tokenizer of at most the {config.vocab_size} word pieces that the model knows"
        raise InputError(FIELD, name, f"{rule}; it has {len(tokenizer)}")
    return LanguageModel(tokenizer, config.to_dict(), (source,))


def build_network(section: TextSection, config: Mapping[str, Any], *, pretrained: bool) -> nn.Module:
    """The network of `config`, in training mode; with the weights of the section's model where `pretrained`.

    Raises
    ------
    InputError
        Where the weights are not those of this model.
    """
    from transformers import AutoConfig

    typed = AutoConfig.for_model(**config)
    if not pretrained or section.model is None:
        return _readable(_from_config(typed))
    folder = model_folder(section.model, FIELD, _FILES)
    return _readable(_from_folder(typed, folder, section.model))


def _read_config(folder: Path, name: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except _READING as error:
        raise InputError(
            FIELD, name, f"must be a folder with a config.json of a text model ({_cause(error)})"
        ) from None


def _tower(config: PreTrainedConfig) -> PreTrainedConfig:
    """Of a model of texts and images the configuration of its text tower."""
    found: PreTrainedConfig = getattr(config, "text_config", None) or config
    return found


def _read_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """Raise `InputError` also where it does not say which characters a piece came from: no word could be explained."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # Without any, transformers makes a tokenizer that knows no word.
    if not any(found for pattern in _VOCABULARIES for found in folder.glob(pattern)):
        raise InputError(FIELD, name, "must have a tokenizer, such as a tokenizer.json")
    try:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (ImportError, ValueError):  # a class that wants a package of its own, beside a file that wants none
            if not (folder / "tokenizer.json").is_file():
                raise
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except _READING as error:
        raise InputError(FIELD, name, f"must have a tokenizer, such as a tokenizer.json ({_cause(error)})") from None
    if not tokenizer.is_fast:
        raise InputError(FIELD, name, "must have a tokenizer.json, which says where in a text each piece stands")
    return tokenizer


def _from_config(config: PreTrainedConfig) -> nn.Module:
    """With random weights."""
    from transformers import AutoModel

    made = _class_of(config)
    if made is not AutoModel:
        return made(config)
    try:
        # A pooler that nothing reads has no gradient, and distributed training stops at such parameters.
        return AutoModel.from_config(config, add_pooling_layer=False)
    except TypeError:  # this architecture has none
        return AutoModel.from_config(config)


def _from_folder(config: PreTrainedConfig, folder: Path, name: str) -> nn.Module:
    """With the weights in `folder`, all of which must be there."""
    import torch
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            network, report = _class_of(config).from_pretrained(
                folder,
                config=config if type(config).__name__.endswith("TextConfig") else None,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (*_READING, SafetensorError) as error:
        raise InputError(FIELD, name, f"must hold the weights of its config.json's model ({_cause(error)})") from None
    missing = sorted(key for key in report["missing_keys"] if key.partition(".")[0] not in _HEADS)
    if missing:
        rule = f"must hold all weights of its config.json's model; {len(missing)} are missing, such as {missing[0]}"
        raise InputError(FIELD, name, rule)
    # It comes in evaluation mode, in which it would learn without dropout.
    network.train()
    return network


def _class_of(config: PreTrainedConfig) -> Any:
    """What makes a network of `config`: the class of a text tower where AutoModel knows none."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if type(config) in MODEL_MAPPING:
        return transformers.AutoModel
    return getattr(transformers, type(config).__name__.removesuffix("Config") + "Model")


def _readable(network: Any) -> nn.Module:
    """`network` without its decoder, and without what makes one vector of a text."""
    from torch import nn

    if network.config.is_encoder_decoder:
        network = network.get_encoder()
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    if isinstance(getattr(network, "head", None), nn.Linear):
        network.head = nn.Identity()
    found: nn.Module = network
    return found


def _cause(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:_LONGEST_CAUSE]
