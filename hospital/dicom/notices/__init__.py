"""What peers report by N-services: storage commitments, performed procedure steps, available instances."""
