"""Measuring: fidelity, agreement, diversity, cost, and the analysis of modulation."""
