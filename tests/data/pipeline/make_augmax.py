"""Makes augmax.npz: what openpi's augmentation gives, with the values that it drew. Needs augmax 0.4.1 and jax 0.5.3,
which nothing else here does:

    pip install augmax==0.4.1 jax==0.5.3 && python tests/data/pipeline/make_augmax.py
"""

from __future__ import annotations

from pathlib import Path

import augmax
import jax
import jax.numpy as jnp
import numpy as np

SIDE, CASES = 14, 16
SMALL = int(SIDE * 0.95)


def main() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    smooth = np.stack([y * 12, x * 12, 255 - (x + y) * 6], -1).astype(np.uint8)
    noise = np.random.RandomState(0).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    found: dict[str, list] = {name: [] for name in ("input", "output", "wrist", "shift", "angle", "amounts", "applied")}
    for case in range(CASES):
        image, wrist, key = (smooth, noise)[case % 2], case % 3 == 2, jax.random.key(case)
        steps = [augmax.ColorJitter(brightness=0.3, contrast=0.4, saturation=0.5)]
        if not wrist:
            steps = [augmax.RandomCrop(SMALL, SMALL), augmax.Resize(SIDE, SIDE), augmax.Rotate((-5, 5)), *steps]
        # The keys as augmax splits them: per chain, then per step; the jitter's own draws from five more.
        chains = jax.random.split(key, 1 if wrist else 2)
        crop, _, turn = jax.random.split(chains[0], 3)
        limit = jnp.full(2, (SIDE - SMALL) / 2)
        jitter = jax.random.split(chains[-1], 1)[0]
        draws = jax.random.split(jitter, 5)
        found["input"].append(image)
        found["output"].append(augmax.Chain(*steps)(key, jnp.asarray(image, jnp.float32) / 255))
        found["wrist"].append(wrist)
        found["shift"].append(jax.random.uniform(crop, [2], minval=-limit, maxval=limit))
        found["angle"].append(jax.random.uniform(turn, minval=np.radians(-5.0), maxval=np.radians(5.0)))
        found["amounts"].append(
            [
                jax.random.uniform(draw, minval=-most, maxval=most)
                for draw, most in zip(draws[:3], (0.3, 0.4, 0.1), strict=True)
            ]
        )
        found["applied"].append(jax.random.bernoulli(jitter, 0.5))
    np.savez_compressed(Path(__file__).with_name("augmax.npz"), **{name: np.array(v) for name, v in found.items()})


if __name__ == "__main__":
    main()
