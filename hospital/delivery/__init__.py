"""The outbox: what is to be sent, a lane for each destination, retries until it arrived or cannot."""
