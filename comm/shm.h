/* comm/shm.h
 * Memory shared by the ranks of one host, and events in it: a number that only grows, on which other
 * processes wait: spinning while the host has a CPU for each rank, then asleep in the kernel. */
#ifndef TRIREME_COMM_SHM_H
#define TRIREME_COMM_SHM_H

#include <mpi.h>
#include <stdatomic.h>

#include "comm/comm.h"

enum { COMM_LINE = 64 };

typedef struct {
    _Alignas(COMM_LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} comm_event_t;
_Static_assert(sizeof(comm_event_t) == COMM_LINE, "one cache line");

typedef struct {
    MPI_Win   win;
    uint8_t **parts; /* of each rank of the communicator; NULL: there is no shared memory */
} comm_shm_t;

/* `bytes` of zeroed memory for each rank of `comm`, whose ranks share a host; 64-byte aligned.
 * Where the system has none to give, shm->parts is NULL on all ranks and the status OK.
 * Status: OK | MEMORY | PEER. Collective over comm. */
base_status_t comm_shm_open(MPI_Comm comm, size_t bytes, comm_shm_t *shm, base_err_t *err);
/* Accepts one that was never opened (win MPI_WIN_NULL). Collective. */
void comm_shm_close(comm_shm_t *shm);

/* Add 1 and wake the sleepers if the sum reached `wake_at`; the sum. */
void comm_event_add(comm_event_t *event, uint32_t wake_at);
/* Add 1 and wake the sleepers. One writer, or it does not matter which of them. */
void comm_event_ring(comm_event_t *event);
/* Wait until value >= target, in the arithmetic modulo 2^32. */
void comm_event_wait(const comm_world_t *world, comm_event_t *event, uint32_t target);
/* Sleep until value != seen, or for timeout_us, or a signal. */
void comm_event_sleep(comm_event_t *event, uint32_t seen, uint64_t timeout_us);

#endif
