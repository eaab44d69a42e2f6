"""From a registered model to answers over HTTP. `service.app.service` holds the doors; open it first."""
