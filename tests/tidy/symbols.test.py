# sanitize: no
"""Every global symbol of a room's library begins with the room's prefix."""

import os
import shutil
import subprocess

import tree

PREFIX = {"base": "base_", "model": "model_", "partition": "part_", "comm": "comm_",
          "worker": "worker_", "kernels": "kern_", "coordinator": "coord_", "quantize": "quant_"}


def main():
    if shutil.which("nm") is None:
        tree.skip("missing tool: nm (binutils)")
    findings = tree.Findings("symbol")
    checked = 0
    for room, prefix in PREFIX.items():
        library = os.path.join(tree.BUILD, f"libtrireme_{room}.a")
        folder = "worker/kernels" if room == "kernels" else room
        if not os.path.exists(library):
            if any(os.path.dirname(p) == folder for p in tree.files(".c")):
                findings.add("symbol", folder, 0, f"{os.path.basename(library)} was not built")
            continue
        out = subprocess.run(["nm", "-g", "--defined-only", "-P", library], check=True,
                             capture_output=True, text=True).stdout
        for line in out.splitlines():
            fields = line.split()
            if len(fields) < 2 or fields[0].endswith(":"):
                continue
            checked += 1
            if not fields[0].startswith(prefix):
                findings.add("symbol", folder, 0, f"{fields[0]} does not begin with {prefix}",
                             fields[0])
    findings.finish(f"{checked} symbols")


main()
