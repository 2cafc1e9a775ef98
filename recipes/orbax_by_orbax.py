"""Does Orbax itself read what `handeye convert --to openpi-orbax` writes, to the bit? Run it with a Python that has
openpi's own versions, and nothing of ours:

    pip install orbax-checkpoint==0.11.13 jax==0.5.3
    python recipes/orbax_by_orbax.py THEIRS/params ARRAYS.npz

ARRAYS.npz: the same weights by `handeye convert --to openpi-jax`. The reading is what openpi's restore_params does
(models/model.py): the metadata's tree, restored as NumPy arrays and as JAX arrays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp


def restored(folder: Path, kind: type) -> dict[str, np.ndarray]:
    with ocp.PyTreeCheckpointer() as checkpointer:
        item = {"params": checkpointer.metadata(folder)["params"]}
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0]) if kind is jax.Array else None
        how = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(restore_type=kind, sharding=sharding), item)
        tree = checkpointer.restore(folder, ocp.args.PyTreeRestore(item=item, restore_args=how))["params"]
    return {"/".join(part.key for part in path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def main(folder: Path, arrays: Path) -> None:
    with np.load(arrays) as file:
        wanted = {name: file[name] for name in file.files}
    for kind in (np.ndarray, jax.Array):
        found = restored(folder.resolve(), kind)
        assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
        for name, array in wanted.items():
            same = found[name].dtype == array.dtype or (array.dtype.kind == "V" and found[name].dtype == "bfloat16")
            assert same and found[name].shape == array.shape and found[name].tobytes() == array.tobytes(), name
        types = sorted({str(array.dtype) for array in found.values()})
        sys.stdout.write(f"{len(found)} arrays equal, as {kind.__name__}; {types}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
