"""tk_r_em as a candidate of `gdn denoise`, with the Python of an environment of its own
(tensorflow-cpu 2.15, tk_r_em; it is GPL).

    gdn denoise frame.tif --candidate \\
        'tk@0.35=/opt/tk/bin/python benchmarks/tk_candidate.py {input} {output} sfr_hrtem'

The networks are meant for pixels of about 0.35 Å: `@0.35` has gdn sum the counts to such. As in
`tk_worker.py` the image is the mean over the eight turns and reflections of the square; the
networks do not mind scale and offset, so that it is in electrons, as the counts are.
"""

import sys

import numpy as np
from tk_worker import over_turns  # sets TensorFlow's environment


def main() -> None:
    from tk_r_em import load_network  # when that is set

    source, target, network = sys.argv[1:]
    np.save(target, over_turns(load_network(network), np.load(source)))


if __name__ == "__main__":
    main()
