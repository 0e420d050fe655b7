"""What a generator costs: parameters, multiply-accumulates, run time, memory, and the paper's figures."""
