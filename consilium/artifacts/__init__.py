"""A model as a folder that can be checked, in the registry or on this machine. Open `artifact`, then `registry`."""
