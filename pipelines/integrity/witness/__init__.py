"""A small witness: it cosigns checkpoints of logs that only grow, and trusts none of them."""
