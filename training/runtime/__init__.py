"""What every long piece of work needs: MLflow tracking, progress, Ctrl+C, several processes, a store that is away."""
