"""The task performer of a UPS-RS worklist: query, claim, progress, completion."""
