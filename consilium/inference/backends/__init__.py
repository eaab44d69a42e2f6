"""What runs the network: eager torch, bfloat16, OpenVINO. A Batch goes in and Logits come out; nothing else changes.

`build_network` gives the network of a backend. Its answers to a study alone and in any batch differ by at
most `COMPANY`: other studies of a batch change how sums are rounded, and nothing else.
"""

from consilium.inference.backends.network import COMPANY, Network, build_network, choose_backend

__all__ = ["COMPANY", "Network", "build_network", "choose_backend"]
