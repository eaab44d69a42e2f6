"""A hospital's year of mishaps in minutes: `make soak-hospital`; a short one is in the tests.

`planned_studies` draws studies and what goes wrong with each, `campaign` plays them against a real store and study
worker with a simulated clock, ends the gateway and the service amid them, and `verdict` compares what was asked and
delivered with what should have been. Read `campaign.py` first.
"""
