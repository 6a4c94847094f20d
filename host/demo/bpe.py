#!/usr/bin/env python3
"""Learns a byte-level BPE and writes it as tokenizer.json and tokenizer_config.json.

    bpe.py FOLDER TEXTS.jsonl… [--size 1024] [--words TEXT]

Every string of the JSONL files is learned from; each word of --words becomes a token, too. Ties go to the pair that comes first in the alphabet, so the same
texts give the same tokenizer.
"""
import argparse
import collections
import json
import os
import re

END = "<|endoftext|>"
# What GPT-2's pattern does to ASCII.
PIECES = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def alphabet():
    """The visible character that stands for each byte."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in visible]
    return {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def learn(texts, size, words=""):
    letters = alphabet()
    counts = collections.Counter(piece for text in texts for piece in PIECES.findall(text))
    counts.update({piece: counts.total() for piece in PIECES.findall(words)})  # outweighs everything: merged first
    words = [([letters[b] for b in piece.encode()], n) for piece, n in counts.items()]
    vocabulary = [END, *sorted(letters.values(), key=ord)]
    merges = []
    pairs, places = collections.Counter(), collections.defaultdict(set)
    for i, (word, n) in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += n
            places[pair].add(i)
    while len(vocabulary) < size and pairs:
        best = min(pairs, key=lambda p: (-pairs[p], p))
        if pairs[best] < 2:
            break
        merges.append(best)
        vocabulary.append("".join(best))
        for i in places.pop(best):
            word, n = words[i]
            for pair in zip(word, word[1:]):
                pairs[pair] -= n
            merged, k = [], 0
            while k < len(word):
                step = 2 if tuple(word[k:k + 2]) == best else 1
                merged.append("".join(word[k:k + step]))
                k += step
            words[i] = merged, n
            for pair in zip(merged, merged[1:]):
                pairs[pair] += n
                places[pair].add(i)
        del pairs[best]
    return vocabulary, merges


def tokenizer(vocabulary, merges):
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": 0, "content": END, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True}],
            "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {token: i for i, token in enumerate(vocabulary)},
                      "merges": [" ".join(pair) for pair in merges]}}


def strings(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                yield from json.loads(line).values()


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=0)
        file.write("\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("texts", nargs="+")
    p.add_argument("--size", type=int, default=1024)
    p.add_argument("--words", default="")
    a = p.parse_args()
    vocabulary, merges = learn(strings(a.texts), a.size, a.words)
    os.makedirs(a.folder, exist_ok=True)
    write(os.path.join(a.folder, "tokenizer.json"), tokenizer(vocabulary, merges))
    write(os.path.join(a.folder, "tokenizer_config.json"),
          {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "clean_up_tokenization_spaces": False,
           "model_max_length": 512})


if __name__ == "__main__":
    main()
