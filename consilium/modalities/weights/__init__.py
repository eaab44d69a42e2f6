"""Pretrained weights: folders of models as Hugging Face writes them."""
