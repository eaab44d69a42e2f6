"""A record system launches the gateway as a SMART app, and a study's result is shown. Start with `smart_launch`."""
