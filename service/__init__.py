"""From a registered model to answers over HTTP. `service.service` holds the doors; open it first."""
