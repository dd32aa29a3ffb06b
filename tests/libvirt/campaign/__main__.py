# SPDX-License-Identifier: GPL-3.0-or-later
"""Have campaigns take place, in the test bed.

usage: python -m campaign SEED N

N acts, in campaigns of 40, the first of which follows from SEED, the second from SEED + 1, …
The status is 1 if something was wrong.
"""

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .rounds import Campaign

LENGTH = 40


def main(seed, count):
    """Have COUNT acts done; return whether all was well."""
    acts, findings, refusals = 0, [], Counter()
    begun = time.monotonic()
    while acts < count:
        directory = Path(tempfile.mkdtemp(prefix="campaign-", dir="/var/lib/libvirt/boot"))
        directory.chmod(0o755)
        try:
            campaign = Campaign(f"camp{os.getpid()}", directory, seed, min(LENGTH, count - acts))
            findings += campaign.run()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        acts += campaign.acts
        refusals.update(campaign.refusals)
        seconds = time.monotonic() - begun
        print(f"SEED={seed}: {acts} acts, {len(findings)} findings, {seconds:.0f} s", flush=True)
        seed += 1
    for reason, times in refusals.most_common():
        print(f"{times:5d}  {reason}")
    return not findings


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]), int(sys.argv[2])) else 1)
