#!/usr/bin/env python3
"""The held-back tenth of the TinyStories slice: what it is, and a way to write it to a file.

    heldback.py SLICE.txt OUT.txt

Stories are parted by a single newline, paragraphs within a story by a blank line. Stories with
index % 10 == 9 are held back: neither the tokenizer nor the model ever saw them.
"""

import re
import sys
from pathlib import Path


def split_stories(text):
    """The stories of a slice, in order; empty ones keep their index."""
    return re.split(r"(?<!\n)\n(?!\n)", text)


def is_held_back(index):
    return index % 10 == 9


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    stories = split_stories(Path(sys.argv[1]).read_text(encoding="utf8"))
    held = [s for i, s in enumerate(stories) if is_held_back(i) and s]
    Path(sys.argv[2]).write_text("\n".join(held) + "\n", encoding="utf8")
    print(f"{len(held)} of {len(stories)} stories")


if __name__ == "__main__":
    main()
