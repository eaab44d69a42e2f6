"""What the service does with HTTP itself: multipart bodies, problem documents, deadlines."""
