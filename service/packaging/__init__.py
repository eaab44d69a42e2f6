"""The service and its model as a bento."""
