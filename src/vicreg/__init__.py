"""Representations from data without labels: VICReg, exact, for tables and your own PyTorch loop."""
