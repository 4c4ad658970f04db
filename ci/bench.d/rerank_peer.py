"""Dense k-reciprocal re-ranking (Zhong et al. 2017) in numpy, as published code has it: square matrices of everyone.

usage: rerank_peer.py QUERY.npy GALLERY.npy K OUT.npy

Only the nearest rows are taken block by block, because their indices would be another matrix of eight bytes a pair.
Prints a line of JSON with the seconds after reading; writes the K nearest entries of each query.
"""

import json
import sys
import time

import numpy as np

K1, K2, LAMBDA = 20, 6, 0.3
ROWS = 1000


def reciprocal(rank, row, k):
    forward = rank[row, : k + 1]
    return forward[(rank[forward, : k + 1] == row).any(axis=1)]


def rerank(query, gallery):
    everyone = np.concatenate([query, gallery])
    count = len(everyone)
    distance = everyone @ everyone.T
    distance *= -2
    distance += 2
    distance /= distance.max(axis=1, keepdims=True)
    rank = np.empty((count, K1 + 1), np.int32)
    for at in range(0, count, ROWS):
        rank[at : at + ROWS] = np.argpartition(distance[at : at + ROWS], range(K1 + 1), axis=1)[:, : K1 + 1]
    half = int(np.around(K1 / 2))
    v = np.zeros_like(distance)
    for row in range(count):
        core = reciprocal(rank, row, K1)
        members = core
        for candidate in core:
            theirs = reciprocal(rank, candidate, half)
            if len(np.intersect1d(theirs, core)) > 2 / 3 * len(theirs):
                members = np.append(members, theirs)
        members = np.unique(members)
        weight = np.exp(-distance[row, members])
        v[row, members] = weight / weight.sum()
    expanded = np.empty_like(v)
    for row in range(count):
        expanded[row] = v[rank[row, :K2]].mean(axis=0)
    v = expanded
    holders = [np.where(v[:, member] != 0)[0] for member in range(count)]
    out = np.empty((len(query), count), np.float32)
    for row in range(len(query)):
        shared = np.zeros(count, np.float32)
        for member in np.where(v[row] != 0)[0]:
            rows = holders[member]
            shared[rows] += np.minimum(v[row, member], v[rows, member])
        out[row] = 1 - shared / (2 - shared)
    out *= 1 - LAMBDA
    out += LAMBDA * distance[: len(query)]
    return out[:, len(query) :]


query, gallery, k, out = np.load(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
start = time.perf_counter()
distance = rerank(query, gallery)
seconds = time.perf_counter() - start
np.save(out, np.argsort(distance, axis=1, kind="stable")[:, :k].astype(np.float32))
print(json.dumps({"seconds": seconds}))
