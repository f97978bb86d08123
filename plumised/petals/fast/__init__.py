"""Computes a span of transformer blocks on the CPU with less overhead than Petals' own blocks.

`fusing` takes a loaded block apart, `coverage` decides which steps are computed here, `eager` computes them with torch
and is the reference, `kernel` computes short steps natively. What is not covered takes Petals' own path; both use the
same weights and the same attention cache, so the path may change from step to step of a session.
"""
