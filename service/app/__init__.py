"""The BentoML service, its routes and how it starts. `service` ties everything together; open it first."""
