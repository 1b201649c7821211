"""VowpalWabbit over a table of visitors; run by regret_ways.py in a Python that has it.

Reads contexts, rewards and draws from the .npz file named first, chooses with `cb_explore_adf` and
the options named second, and prints the places of the actions chosen as one JSON list.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

import numpy as np


def main() -> None:
    """Choose for every visitor in turn, and learn from what is earned."""
    world = np.load(sys.argv[1], allow_pickle=False)
    contexts, rewards, draws = world["contexts"], world["rewards"], world["draws"]
    # Every action meets every feature: without the interaction all visitors get the same greeting.
    options = "--cb_explore_adf --quiet --random_seed 1 --noconstant --ignore_linear S -q SA"
    # Not in the environment of the other benchmarks: type checkers do not find it.
    vw = import_module("vowpalwabbit").Workspace(f"{options} {sys.argv[2]}")
    actions = range(rewards.shape[1])
    chosen = []
    for x, earns, draw in zip(contexts, rewards, draws, strict=True):
        shared = "shared |S " + " ".join(f"f{i}:{value:.9f}" for i, value in enumerate(x) if value)
        plain = [f"|A a{action}" for action in actions]
        says = np.array(vw.predict([shared, *plain]))
        place = min(int(np.searchsorted(says.cumsum(), draw * says.sum(), "right")), len(says) - 1)
        plain[place] = f"0:{-earns[place]:.9f}:{says[place]:.9f} {plain[place]}"
        vw.learn([shared, *plain])
        chosen.append(place)
    vw.finish()
    print(json.dumps(chosen))


if __name__ == "__main__":
    main()
