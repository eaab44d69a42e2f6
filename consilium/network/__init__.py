"""The network: tokens from the encoders, one fusion, and the heads. Open `diagnosis_model` first."""
