/* launch/pack_choice.h
 * Which packed format the ternary weights get when the user left it open (--pack auto): what this
 * machine multiplies faster, if it has the memory. Results are the same bits in either, so hosts
 * may differ; the ranks of one host do not, as they share its memory and its bandwidth. */
#ifndef TRIREME_LAUNCH_PACK_CHOICE_H
#define TRIREME_LAUNCH_PACK_CHOICE_H

#include "comm/comm.h"
#include "partition/assignment_wire.h"
#include "worker/measure.h"

typedef enum {
    PACK_SMALL,    /* so few ternary weights that it does not matter: t2, nothing is measured */
    PACK_MEMORY,   /* only t3 fits */
    PACK_MEASURED, /* the faster */
    PACK_FAILED,   /* could not be measured: t2 */
} pack_reason_t;

/* One host: all its ranks together. */
typedef struct {
    uint64_t           ternary_bytes;       /* of its ranks' ternary weights in t2 */
    uint64_t           bytes[WORKER_PACKS]; /* predicted memory of its ranks, with each format */
    uint64_t           available;           /* memory that may be taken; UINT64_MAX: not known */
    worker_pack_rate_t rates[WORKER_PACKS]; /* sums over its ranks; 0: not measured */
} pack_host_t;

typedef struct {
    int           pack; /* WORKER_PACK_T2 or _T3 */
    pack_reason_t reason;
} pack_choice_t;

/* The choice; *measure: it needs rates that are not there (then the result means nothing). Pure. */
pack_choice_t pack_decide(const pack_host_t *host, bool *measure);

enum { PACK_TEXT_BYTES = 160 };

/* a->pack "auto" becomes "t2" or "t3" on each rank, the same on all of a host; others stay. May
 * measure for half a second, at the first start on a machine. text, on every rank: why, with the
 * figures of its host. Status: OK | MEMORY | PEER. Collective over the world. */
base_status_t pack_choose(comm_world_t *world, worker_team_t *team, part_assignment_t *a,
                          int host_cores, char *text, base_err_t *err);

#endif
