"""From a registered model to answers over HTTP. `service.app.service` ties everything together; open it first."""
